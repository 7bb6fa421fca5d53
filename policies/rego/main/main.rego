# METADATA
# title: Portcullis decision
# description: |
#   The one entrypoint of the contract portcullis/v1, the same for every gate. It
#   combines grants, checks, waivers and monitor mode. An allow is derived from
#   what was shown to hold, never left over.
# schemas:
#   - input: schema.input
package portcullis.main

import data.portcullis.lib.builtin
import data.portcullis.lib.grants
import data.portcullis.lib.obligations

# METADATA
# description: The decision about the input.
# entrypoint: true
decision := {
	"contract": "portcullis/v1",
	"verdict": _verdict,
	"mode": _mode,
	"deny": _deny,
	"warn": _warn,
	"waivers": _waivers,
	"grants": {g.id | some g in grants.used},
	"obligations": object.union(obligations.combined, _audit),
}

default _verdict := "deny"

_verdict := "allow" if {
	input.contract == "portcullis/v1"
	count(input.requests) > 0
	count(_deny) == 0
	every i, _ in input.requests {
		_covered(i)
	}
}

_covered(i) if count(grants.usable[i]) > 0

_covered(i) if {
	some finding in _raised
	finding.id in {"PR-001", "PR-013", "PR-020", "PR-101"}
	finding.secret == input.requests[i].secret
	_monitored(finding)
}

_raised contains finding if some finding in builtin.deny

_raised contains finding if {
	some name
	some raw in data.portcullis.checks[name].deny
	finding := _named(raw, name)
}

_raised contains finding if {
	some conflict in obligations.conflicts
	finding := {
		"id": "PR-011",
		"check": "obligation_conflict",
		"severity": "high",
		"message": sprintf("obligations on %s cannot be met together: %s", [conflict.name, conflict.text]),
		"remediation": sprintf("tell the security team: make %s agree in configuration, checks and grants", [conflict.name]),
		"waivable": false,
	}
}

# The ids below PR-200 are the library's: a check of the bundle that used one
# would be taken for it. The engine refuses a decision with such an id.
_named(raw, name) := object.union_n([
	{"waivable": true},
	raw,
	{"check": name, "id": _bundle_id(raw), "waived": false, "monitored": false},
])

_bundle_id(raw) := raw.id if {
	raw.id >= "PR-200"
} else := "reserved"

# A finding is refused unless something excuses it, so that one that is
# incomplete stays a denial.
_deny := {finding | some finding in _raised; not _excused(finding)}

_excused(finding) if count(_waiving(finding)) > 0

_excused(finding) if _monitored(finding)

_warn contains object.union(finding, {"waived": true}) if {
	some finding in _raised
	count(_waiving(finding)) > 0
}

_warn contains object.union(finding, {"monitored": true}) if {
	some finding in _raised
	count(_waiving(finding)) == 0
	_monitored(finding)
}

_warn contains finding if some finding in builtin.warn

_warn contains finding if {
	some name
	some raw in data.portcullis.checks[name].warn
	finding := _named(raw, name)
}

_ninety_days_ns := ((90 * 24) * 3600) * 1000000000

# Nothing is waived or monitored for longer than ninety days, whatever the data says.
_current(end_ns) if {
	input.now_ns < end_ns
	end_ns <= input.now_ns + _ninety_days_ns
}

_waiving(finding) := {w.id |
	finding.waivable == true
	some who in {input.subject.serviceAccount, "*"}
	some w in data.portcullis.waivers.by_finding[finding.id][concat("/", [input.subject.namespace, who])]
	object.get(w, "secret", object.get(finding, "secret", "")) == object.get(finding, "secret", "")
	_current(w.not_after_ns)
}

_waivers := {id | some finding in _raised; some id in _waiving(finding)}

# Whatever was waived is worth a closer look later.
default _audit := {}

_audit := {"audit_level": max([2, object.get(obligations.combined, "audit_level", 0)])} if count(_waivers) > 0

default _mode := "enforce"

_mode := "monitor" if _monitoring

_monitoring if _current(data.portcullis.config.monitor.until_ns)

_never_monitored := {"PR-002", "PR-003", "PR-011", "PR-102", "PR-110", "PR-120"}

_monitored(finding) if {
	_monitoring
	not finding.id in _never_monitored
	_monitored_rule(finding.id, data.portcullis.config.monitor.rules)
}

_monitored_rule(_, rules) if "*" in rules

_monitored_rule(id, rules) if id in rules
