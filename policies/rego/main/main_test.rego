# METADATA
# schemas:
#   - input: schema.input
package portcullis.main_test

import data.portcullis.fixtures
import data.portcullis.main

# _decide evaluates with these facts, configuration, waivers and denials of a check.
_decide(facts, config, waivers, denials) := d if {
	d := main.decision with input as facts
		with data.portcullis.config as object.union(fixtures.config, config)
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
		with data.portcullis.waivers.by_finding as waivers
		with data.portcullis.checks as {"tier": {"deny": denials, "warn": set()}}
}

_ungranted := fixtures.with_request({"secret": "local://node/other"})

_finding := {"id": "PR-300", "severity": "high", "message": "no"}

_rules(findings) := {f.id | some f in findings}

test_granted_request_is_allowed if {
	_decide(fixtures.facts, {}, {}, set()) == {
		"contract": "portcullis/v1", "verdict": "allow", "mode": "enforce",
		"deny": set(), "warn": set(), "waivers": set(), "grants": {"G-1"}, "obligations": {},
	}
}

test_request_without_a_grant_is_denied if {
	d := _decide(_ungranted, {}, {}, set())
	d.verdict == "deny"
	_rules(d.deny) == {"PR-001"}
	d.grants == set()
}

test_one_ungranted_request_of_two_is_denied if {
	both := object.union(fixtures.facts, {"requests": [fixtures.request, _ungranted.requests[0]]})
	_decide(both, {}, {}, set()).verdict == "deny"
}

test_nothing_asked_for_is_denied if _decide(object.union(fixtures.facts, {"requests": []}), {}, {}, set()).verdict == "deny"

test_other_contract_is_denied if _decide(object.union(fixtures.facts, {"contract": "portcullis/v2"}), {}, {}, set()).verdict == "deny"

test_denial_of_a_check_is_denied if {
	d := _decide(fixtures.facts, {}, {}, {_finding})
	d.verdict == "deny"
	d.deny == {object.union(_finding, {"check": "tier", "waivable": true, "waived": false, "monitored": false})}
}

test_every_gate_decides_alike if {
	every phase in ["admission", "mount", "rotate", "sync", "ci"] {
		facts := object.union(fixtures.facts, {"phase": phase})
		_decide(facts, {}, {}, set()).verdict == "allow"
		_decide(facts, {}, {}, {_finding}).verdict == "deny"
	}
}

test_incomplete_finding_is_denied if {
	d := _decide(fixtures.facts, {}, {}, {{"message": "no id"}})
	d.verdict == "deny"
	_rules(d.deny) == {"reserved"}
}

test_reserved_id_is_not_passed_on if _rules(_decide(fixtures.facts, {}, {}, {{"id": "PR-001"}}).deny) == {"reserved"}

test_warning_of_a_check_is_passed_on if {
	d := main.decision with input as fixtures.facts
		with data.portcullis.config as fixtures.config
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
		with data.portcullis.checks as {"tier": {"warn": {_finding}}}
	d.verdict == "allow"
	_rules(d.warn) == {"PR-300"}
}

test_warning_of_the_library_is_passed_on if {
	facts := fixtures.with_request({"sync": [{"name": "db", "type": "Opaque", "key": "password"}]})
	_rules(_decide(facts, {}, {}, set()).warn) == {"PR-030"}
}

test_conflict_of_obligations_is_denied if {
	d := main.decision with input as fixtures.facts
		with data.portcullis.config as object.union(fixtures.config, {"obligations": {"required_fs_group": 1}})
		with data.portcullis.grants.by_subject as fixtures.filed(fixtures.grant)
		with data.portcullis.checks as {"tier": {"obligations": {"required_fs_group": 2}}}
	d.verdict == "deny"
	_rules(d.deny) == {"PR-011"}
}

# Waivers.

_waiver := {"id": "W-1", "not_after_ns": fixtures.now_ns + fixtures.day_ns}

_waived(subject, w) := {"PR-300": {subject: [w]}}

test_waived_finding_is_allowed if {
	every subject in ["payments/api", "payments/*"] {
		d := _decide(fixtures.facts, {}, _waived(subject, _waiver), {_finding})
		d.verdict == "allow"
		d.waivers == {"W-1"}
		d.obligations == {"audit_level": 2}
		{[f.id, f.waived, f.monitored] | some f in d.warn} == {["PR-300", true, false]}
	}
}

test_waiver_of_another_subject_is_denied if {
	every subject in ["payments/other", "other/api", "*/*", "*/api"] {
		_decide(fixtures.facts, {}, _waived(subject, _waiver), {_finding}).verdict == "deny"
	}
}

test_waiver_applies_until_it_expires if {
	every end in [fixtures.now_ns, fixtures.now_ns - 1, fixtures.now_ns + (91 * fixtures.day_ns)] {
		w := object.union(_waiver, {"not_after_ns": end})
		_decide(fixtures.facts, {}, _waived("payments/api", w), {_finding}).verdict == "deny"
	}
}

test_waiver_without_an_end_is_denied if _decide(fixtures.facts, {}, _waived("payments/api", {"id": "W-1"}), {_finding}).verdict == "deny"

test_waiver_of_one_secret_covers_that_secret_only if {
	w := object.union(_waiver, {"secret": fixtures.secret})
	about := object.union(_finding, {"secret": fixtures.secret})
	_decide(fixtures.facts, {}, _waived("payments/api", w), {about}).verdict == "allow"
	_decide(fixtures.facts, {}, _waived("payments/api", w), {_finding}).verdict == "deny"
	_decide(fixtures.facts, {}, _waived("payments/api", _waiver), {about}).verdict == "allow"
}

test_finding_that_cannot_be_waived_is_denied if {
	d := _decide(fixtures.facts, {}, _waived("payments/api", _waiver), {object.union(_finding, {"waivable": false})})
	d.verdict == "deny"
	_decide(_ungranted, {}, {"PR-001": {"payments/api": [_waiver]}}, set()).verdict == "deny"
}

# Monitor mode.

_monitor(until, rules) := {"monitor": {"until_ns": until, "rules": rules}}

_tomorrow := fixtures.now_ns + fixtures.day_ns

test_monitored_finding_is_allowed if {
	every rules in [["*"], ["PR-300"]] {
		d := _decide(fixtures.facts, _monitor(_tomorrow, rules), {}, {_finding})
		d.verdict == "allow"
		d.mode == "monitor"
		{[f.id, f.monitored] | some f in d.warn} == {["PR-300", true]}
	}
}

test_monitored_want_of_a_grant_is_allowed if {
	d := _decide(_ungranted, _monitor(_tomorrow, ["*"]), {}, set())
	d.verdict == "allow"
	d.grants == set()
	_rules(d.warn) == {"PR-001"}
}

test_monitor_mode_of_no_rule_is_denied if {
	_decide(fixtures.facts, _monitor(_tomorrow, []), {}, {_finding}).verdict == "deny"
}

test_rule_that_is_not_monitored_is_denied if {
	d := _decide(fixtures.facts, _monitor(_tomorrow, ["PR-301"]), {}, {_finding})
	d.verdict == "deny"
	d.mode == "monitor"
	_decide(_ungranted, _monitor(_tomorrow, ["PR-301"]), {}, set()).verdict == "deny"
}

test_monitor_mode_ends if {
	every until in [0, fixtures.now_ns, fixtures.now_ns + (91 * fixtures.day_ns)] {
		d := _decide(fixtures.facts, _monitor(until, ["*"]), {}, {_finding})
		d.verdict == "deny"
		d.mode == "enforce"
	}
}

test_hard_finding_is_denied_in_monitor_mode if {
	d := _decide(fixtures.facts, object.union(_monitor(_tomorrow, ["*"]), {"required_checks": ["lost"]}), {}, {_finding})
	d.verdict == "deny"
	_rules(d.deny) == {"PR-002"}
}

test_waived_finding_is_not_monitored_too if {
	d := _decide(fixtures.facts, _monitor(_tomorrow, ["*"]), _waived("payments/api", _waiver), {_finding})
	{[f.waived, f.monitored] | some f in d.warn} == {[true, false]}
}

test_nothing_asked_for_is_denied_in_monitor_mode if {
	_decide(object.union(fixtures.facts, {"requests": []}), _monitor(_tomorrow, ["*"]), {}, set()).verdict == "deny"
}
