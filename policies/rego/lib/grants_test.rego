# METADATA
# schemas:
#   - input: schema.input
package portcullis.lib.grants_test

import data.portcullis.fixtures
import data.portcullis.lib.grants

_live(index, facts) := [g.id | some g in live[facts.requests[0].secret]] if {
	live := grants.live with input as facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as index
}

_granted(fields) if _live(fixtures.filed(object.union(fixtures.grant, fields)), fixtures.facts) == ["G-1"]

_subject(key) := {key: {fixtures.secret: [fixtures.grant]}}

_secret(key) := {"payments/api": {key: [fixtures.grant]}}

# Lookup by subject.

test_own_service_account_is_allowed if _live(_subject("payments/api"), fixtures.facts) == ["G-1"]

test_every_service_account_is_allowed if _live(_subject("payments/*"), fixtures.facts) == ["G-1"]

test_configured_label_is_allowed if {
	_live(_subject("label:example.com/team=pay/api"), fixtures.facts) == ["G-1"]
	_live(_subject("label:example.com/team=pay/*"), fixtures.facts) == ["G-1"]
}

test_other_subject_is_denied if {
	every key in ["payments/other", "other/api", "other/*", "*/api", "*/*", "label:example.com/team=other/api"] {
		_live(_subject(key), fixtures.facts) == []
	}
}

test_label_that_is_not_configured_is_denied if _live(_subject("label:example.com/tier=prod/api"), fixtures.facts) == []

test_namespace_without_labels_is_allowed_by_name if {
	facts := json.remove(fixtures.facts, ["/subject/namespaceLabels"])
	_live(_subject("payments/api"), facts) == ["G-1"]
}

# Lookup by secret.

test_secret_is_allowed_by_every_key_that_covers_it if {
	every key in [
		"local://node/payments/db#password@3", "local://node/payments/db#password", "local://node/payments/db#",
		"local://node/payments/", "local://node/",
	] {
		_live(_secret(key), fixtures.facts) == ["G-1"]
	}
}

test_secret_is_denied_by_every_other_key if {
	every key in [
		"local://node/payments/db#password@4", "local://node/payments/db", "local://node/payments/d", "local://node/pay/",
		"local://node/payments/db/", "local://", "local:/", "#", "/", "", "vault://node/payments/",
	] {
		_live(_secret(key), fixtures.facts) == []
	}
}

test_slashes_of_key_and_version_are_no_path if {
	facts := fixtures.with_request({"secret": "local://node/a#b/c@d/e"})
	_live(_secret("local://node/a#b/"), facts) == []
	_live(_secret("local://node/"), facts) == ["G-1"]
}

test_secret_without_a_key_is_not_covered_by_every_key if {
	facts := fixtures.with_request({"secret": "local://node/a"})
	_live(_secret("local://node/a#"), facts) == []
	_live(_secret("local://node/a"), facts) == ["G-1"]
}

test_unparsed_request_is_allowed_in_full_only if {
	facts := fixtures.with_request({"secret": "unparsed:aa/bb#c@d"})
	_live(_secret("unparsed:aa/bb#c@d"), facts) == ["G-1"]
	every key in ["unparsed:aa/", "unparsed:", "unparsed:aa/bb#", "unparsed:aa/bb#c"] {
		_live(_secret(key), facts) == []
	}
}

# Requirements of a live grant.

test_grant_is_allowed_until_it_expires if {
	_granted({"not_after_ns": fixtures.now_ns + 1})
	not _granted({"not_after_ns": fixtures.now_ns})
	not _granted({"not_after_ns": fixtures.now_ns - 1})
}

test_other_provider_is_denied if not _granted({"provider": "vault"})

test_incomplete_record_is_denied if {
	every field in ["not_after_ns", "provider"] {
		g := json.remove(fixtures.grant, [field])
		_live(fixtures.filed(g), fixtures.facts) == []
	}
}

test_every_label_of_a_selector_is_required if {
	_granted({"namespace_labels": {"example.com/team": "pay"}})
	not _granted({"namespace_labels": {"example.com/team": "pay", "example.com/region": "eu"}})
	not _granted({"namespace_labels": {"example.com/team": "other"}})

	# The label is there, but the configuration does not trust it.
	not _granted({"namespace_labels": {"example.com/team": "pay", "example.com/tier": "prod"}})
}

test_pods_narrow_a_grant if {
	_granted({"pods": {"owner_kinds": ["StatefulSet"], "owner_names": ["api"], "name_patterns": ["api-*"]}})
	_granted({"pods": {"name_patterns": ["api-0"]}})
	not _granted({"pods": {"owner_kinds": ["Job"]}})
	not _granted({"pods": {"owner_names": ["other"]}})
	not _granted({"pods": {"name_patterns": ["api", "apix-*"]}})
}

test_pod_without_an_owner_is_denied_where_one_is_required if {
	facts := json.remove(fixtures.facts, ["/pod/owner"])
	_live(fixtures.filed(object.union(fixtures.grant, {"pods": {"owner_kinds": ["StatefulSet"]}})), facts) == []
}

test_images_narrow_a_grant if {
	_granted({"pods": {"image_repositories": ["registry.example:5000/payments/api"]}})
	_granted({"pods": {"image_repositories": ["registry.example:5000/payments/api@sha256:aa"]}})
	not _granted({"pods": {"image_repositories": ["registry.example:5000/payments/api@sha256:bb"]}})
	not _granted({"pods": {"image_repositories": ["registry.example:5000/payments"]}})
}

_with_containers(containers) := object.union(fixtures.facts, {"pod": {"containers": containers}})

test_image_of_one_container_is_not_enough if {
	foreign := object.union(fixtures.container, {"name": "x", "image": "elsewhere/x"})
	g := object.union(fixtures.grant, {"pods": {"image_repositories": ["registry.example:5000/payments/api"]}})
	_live(fixtures.filed(g), _with_containers([fixtures.container, foreign])) == []
	_live(fixtures.filed(g), _with_containers([])) == []
}

test_signers_are_required_of_every_container if {
	_granted({"image_signers": ["key:ci", "key:other"]})
	not _granted({"image_signers": ["key:other"]})
	g := object.union(fixtures.grant, {"image_signers": ["key:ci"]})
	unverified := object.union(fixtures.container, {"signature": {"verified": false, "by": ["key:ci"]}})
	unsigned := json.remove(fixtures.container, ["/signature"])
	every container in [unverified, unsigned] {
		_live(fixtures.filed(g), _with_containers([fixtures.container, container])) == []
	}
	_live(fixtures.filed(g), _with_containers([])) == []
}

# A gate that has no evidence of a signature is not one that may do without.
test_signers_are_required_at_every_gate[phase] if {
	some phase in ["admission", "mount", "rotate", "sync", "ci"]
	g := object.union(fixtures.grant, {"image_signers": ["key:ci"]})
	signed := object.union(_with_containers([fixtures.container]), {"phase": phase})
	_live(fixtures.filed(g), signed) == ["G-1"]
	every gone in ["/signature", "/signature/verified", "/signature/by"] {
		container := json.remove(fixtures.container, [gone])
		_live(fixtures.filed(g), object.union(_with_containers([container]), {"phase": phase})) == []
	}
}

test_misses_say_what_is_wrong if {
	g := object.union(fixtures.grant, {"not_after_ns": 1, "provider": "vault"})
	got := grants.misses(fixtures.secret) with input as fixtures.facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as fixtures.filed(g)
	got == {"grant G-1 would apply if it had not expired", "grant G-1 would apply if it were for this provider"}
}

# What one grant has to cover as a whole.

_usable(gs, facts) := [g.id | some g in usable[0]] if {
	usable := grants.usable with input as facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as {"payments/api": {"local://node/payments/": gs}}
}

_scoped_grant(id, scoping, uid) := object.union(fixtures.grant, {"id": id, "scoping": scoping, "owner_uid": uid})

test_scoping_must_be_exact if {
	facts := object.union(fixtures.facts, {"spc": {"scoping": {"role": "a"}}})
	_usable([_scoped_grant("G-1", {"role": "a"}, 1)], facts) == ["G-1"]
	_usable([_scoped_grant("G-1", {"role": "b"}, 1)], facts) == []
	_usable([_scoped_grant("G-1", {}, 1)], facts) == []
	_usable([_scoped_grant("G-1", {"role": "a", "region": "eu"}, 1)], facts) == []
	_usable([_scoped_grant("G-1", {"role": "a"}, 1)], fixtures.facts) == []
}

test_record_without_scoping_is_denied if _usable([json.remove(fixtures.grant, ["scoping"])], fixtures.facts) == []

test_two_grants_do_not_add_up if {
	facts := object.union(fixtures.with_request({"uid": 1000}), {"spc": {"scoping": {"role": "a"}}})
	_usable([_scoped_grant("G-1", {"role": "a"}, 1), _scoped_grant("G-2", {"role": "b"}, 1000)], facts) == []
	_usable([_scoped_grant("G-3", {"role": "a"}, 1000)], facts) == ["G-3"]
}

test_owner_is_allowed_only_where_granted if {
	owned := fixtures.with_request({"uid": 0})
	_usable([_scoped_grant("G-1", {}, 0)], owned) == ["G-1"]
	_usable([_scoped_grant("G-1", {}, 1)], owned) == []
	_usable([fixtures.grant], owned) == []
	_usable([_scoped_grant("G-1", {}, 1)], fixtures.facts) == ["G-1"]
}

test_common_mode_keeps_what_all_permit if {
	grants.common_mode([]) == 292
	grants.common_mode([{}]) == 292
	grants.common_mode([{"max_file_mode": 288}, {"max_file_mode": 260}, {}]) == 256
	grants.common_mode([{"max_file_mode": 32}, {"max_file_mode": 256}]) == 0
}
