# METADATA
# schemas:
#   - input: schema.input
package portcullis.lib.builtin_test

import data.portcullis.fixtures
import data.portcullis.lib.builtin

_found(facts, g) := found if {
	found := builtin.deny with input as facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as fixtures.filed(g)
}

_ids(facts, g) := {f.id | some f in _found(facts, g)}

test_granted_request_is_allowed if _ids(fixtures.facts, fixtures.grant) == set()

test_request_without_a_grant_is_denied if {
	found := _found(fixtures.with_request({"secret": "local://node/other/db"}), fixtures.grant)
	{f.id | some f in found} == {"PR-001"}
	some f in found
	f.secret == "local://node/other/db"
	f.waivable == false
	contains(f.message, "service account api in namespace payments")
}

test_remedy_names_the_grant_that_expired if {
	some f in _found(fixtures.facts, object.union(fixtures.grant, {"not_after_ns": 1}))
	f.id == "PR-001"
	endswith(f.remediation, "; grant G-1 would apply if it had not expired")
}

test_missing_required_check_is_denied if {
	found := builtin.deny with input as fixtures.facts
		with data.portcullis.config as object.union(fixtures.config, {"required_checks": ["denies", "obliges", "lost"]})
		with data.portcullis.checks as {"denies": {"deny": set()}, "obliges": {"obligations": {}}}
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
	{f.message | some f in found} == {"the required check lost is not in the policy bundle"}
}

test_override_is_denied_unless_configured if {
	facts := object.union(fixtures.facts, {"volume": {"overrides": ["objects", "roleName"]}})
	found := builtin.deny with input as facts
		with data.portcullis.config as object.union(fixtures.config, {"allowed_overrides": ["roleName"]})
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
	{[f.id, f.waivable] | some f in found} == {["PR-010", true]}
	{f.message | some f in found} == {"volumeAttributes of the pod override parameter objects of class db"}
}

test_unparsed_request_is_denied if {
	facts := fixtures.with_request({"secret": "unparsed:aa", "parseError": "objects is written twice"})
	_ids(facts, fixtures.grant) == {"PR-013"}
	some f in _found(facts, fixtures.grant)
	endswith(f.message, "for certain: objects is written twice")
}

test_unparsed_request_that_is_granted_in_full_is_allowed if {
	found := builtin.deny with input as fixtures.with_request({"secret": "unparsed:aa"})
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as {"payments/api": {"unparsed:aa": [fixtures.grant]}}
	found == set()
}

test_scoping_beyond_the_grant_is_denied if {
	facts := object.union(fixtures.facts, {"spc": {"scoping": {"role": "admin", "region": "eu"}}})
	g := object.union(fixtures.grant, {"scoping": {"role": "reader", "region": "eu", "account": "1"}})
	some f in _found(facts, g)
	f.id == "PR-020"
	endswith(f.message, "of class db: account, role")
}

test_owner_that_is_not_granted_is_denied if {
	some f in _found(fixtures.with_request({"uid": 0}), fixtures.grant)
	f.id == "PR-101"
	f.message == "no grant lets user 0 own file db"
}

test_owner_that_is_granted_is_allowed if {
	_ids(fixtures.with_request({"uid": 0}), object.union(fixtures.grant, {"owner_uid": 0})) == set()
}

# One finding says what is missing first: a request without a live grant is not
# told about its owner too.
test_request_without_a_grant_is_denied_once if {
	facts := fixtures.with_request({"secret": "local://node/other/db", "uid": 0})
	_ids(facts, fixtures.grant) == {"PR-001"}
}

test_mode_beyond_the_grant_is_denied if {
	g := object.union(fixtures.grant, {"max_file_mode": 256})
	some f in _found(fixtures.with_request({"mode": 288}), g)
	f.id == "PR-100"
	contains(f.message, "mode 0440 of file db is beyond 0400")
	contains(f.remediation, "\"0400\"")
}

test_mode_within_the_grant_is_allowed if {
	g := object.union(fixtures.grant, {"max_file_mode": 288})
	every mode in [256, 288, 384, 416] {
		_ids(fixtures.with_request({"mode": mode}), g) == set()
	}
}

_warned(facts, g) := {f.id | some f in found} if {
	found := builtin.warn with input as facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as fixtures.filed(g)
}

test_copy_that_is_not_granted_is_warned_about if {
	facts := fixtures.with_request({"sync": [{"name": "db", "type": "Opaque", "key": "password"}]})
	_warned(facts, fixtures.grant) == {"PR-030"}
	_warned(facts, object.union(fixtures.grant, {"sync_targets": ["db"]})) == set()
	_warned(fixtures.facts, fixtures.grant) == set()
}

_targets(n) := [{"name": sprintf("db-%02d", [i]), "type": "Opaque", "key": "password"} | some i in numbers.range(1, n)]

_copies(n) := found if {
	found := builtin.warn with input as fixtures.with_request({"sync": _targets(n)})
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
}

test_all_copies_that_are_not_granted_are_one_warning if {
	every n in [1, 8, 9, 64] {
		count(_copies(n)) == 1
		every finding in _copies(n) {
			not finding.secret
		}
	}
	some eight in _copies(8)
	endswith(eight.message, ": db-01, db-02, db-03, db-04, db-05, db-06, db-07, db-08")
	some nine in _copies(9)
	endswith(nine.message, ", db-08 and 1 more")
	endswith(nine.remediation, ", db-08 and 1 more")
}

test_remedy_names_a_few_of_many_grants if {
	expired := [object.union(fixtures.grant, {"id": sprintf("G-%02d", [i]), "not_after_ns": 1}) | some i in numbers.range(1, 64)]
	found := builtin.deny with input as fixtures.facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as {"payments/api": {"local://node/payments/": expired}}
	some f in found
	f.id == "PR-001"
	endswith(f.remediation, "; grant G-08 would apply if it had not expired and 56 more")
}
