# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.tokens_test

import data.portcullis.checks.tokens

_subject(fields) := object.union({"namespace": "payments"}, fields)

_denied(subject, list, settings) := {finding.id |
	some finding in tokens.deny with input.subject as subject
		with input.tokens as list
		with data.portcullis.config.checks.tokens as settings
}

_warned(subject, list, settings) := {finding.id |
	some finding in tokens.warn with input.subject as subject
		with input.tokens as list
		with data.portcullis.config.checks.tokens as settings
}

_bad := [{"audience": "vault", "verified": false}, {"audience": "", "verified": true}]

_good := [{"audience": "vault", "verified": true}]

_deny := {"unverified": "deny", "deny_in": {}}

_warn := {"unverified": "warn", "deny_in": {"namespaces": ["shop"]}}

test_confirmed_pod_is_allowed if {
	count(_denied(_subject({"tokenVerified": true}), _good, _deny)) == 0
	count(_warned(_subject({"tokenVerified": true}), _good, _warn)) == 0
}

test_pod_without_a_token_is_denied if _denied(_subject({"tokenVerified": false}), [], _deny) == {"PR-232"}

test_token_that_was_not_verified_is_denied if {
	_denied(_subject({"tokenVerified": true}), _bad, _deny) == {"PR-233"}
	_denied(_subject({"tokenVerified": false}), _bad, _deny) == {"PR-232", "PR-233"}
}

test_gate_without_tokens_is_allowed if {
	count(_denied(_subject({}), [], _deny)) == 0
	count(tokens.deny) == 0 with input.subject as _subject({}) with data.portcullis.config.checks.tokens as _deny
}

test_finding_names_the_audience if {
	some finding in tokens.deny with input.subject as _subject({"tokenVerified": true})
		with input.tokens as _bad
		with data.portcullis.config.checks.tokens as _deny
	finding.message == `service account tokens that could not be verified, for audiences "vault"`
}

test_pod_without_a_token_is_reported_or_allowed_by_setting if {
	subject := _subject({"tokenVerified": false})
	count(_denied(subject, _bad, _warn)) == 0
	_warned(subject, _bad, _warn) == {"PR-232", "PR-233"}
	allow := {"unverified": "allow", "deny_in": {}}
	count(_denied(subject, _bad, allow) | _warned(subject, _bad, allow)) == 0
	count(_warned(subject, _bad, _deny)) == 0
}

test_pod_of_a_selected_namespace_is_denied if {
	subject := _subject({"tokenVerified": false})
	settings := {"unverified": "warn", "deny_in": {"namespaces": ["payments"]}}
	_denied(subject, [], settings) == {"PR-232"}
	count(_warned(subject, [], settings)) == 0
}

test_without_settings_a_pod_without_a_token_is_denied if {
	subject := _subject({"tokenVerified": false})
	_denied(subject, [], {}) == {"PR-232"}
	_denied(subject, [], {"unverified": "warn"}) == {"PR-232"}
	_denied(subject, [], {"unverified": "off", "deny_in": {}}) == {"PR-232"}
	count(tokens.deny) == 1 with input.subject as subject
}
