# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.secret_copies_test

import data.portcullis.checks.secret_copies

_requests(type) := [
	{"secret": "local://node/a", "file": "a", "sync": [{"name": "db", "type": type, "key": "k"}]},
	{"secret": "local://node/b", "file": "b"},
]

_ids(requests, not_granted, settings) := {finding.id |
	some finding in secret_copies.deny with input.spc as {"name": "class", "provider": "local", "parametersSha256": "00"}
		with input.requests as requests
		with data.portcullis.lib.grants.targets_not_granted as not_granted
		with data.portcullis.config.checks.secret_copies as settings
}

_settings := {"types": ["Opaque"], "not_granted": "deny"}

test_class_without_copies_is_allowed if count(_ids([{"secret": "local://node/a"}], set(), _settings)) == 0

test_copy_of_a_listed_type_is_allowed if count(_ids(_requests("Opaque"), set(), _settings)) == 0

test_copy_without_a_type_is_allowed_since_none_is_made if count(_ids(_requests(""), set(), _settings)) == 0

test_copy_of_another_type_is_denied if {
	_ids(_requests("kubernetes.io/service-account-token"), set(), _settings) == {"PR-240"}
	_ids(_requests("opaque"), set(), _settings) == {"PR-240"}
	_ids(_requests("Opaque"), set(), {}) == {"PR-240"}
}

test_copy_that_no_grant_lists_is_denied if {
	_ids(_requests("Opaque"), {"db"}, _settings) == {"PR-241"}
	_ids(_requests("Opaque"), {"db"}, {"types": ["Opaque"]}) == {"PR-241"}
}

test_copy_that_no_grant_lists_is_allowed_where_the_library_reports_it if {
	count(_ids(_requests("Opaque"), {"db"}, {"types": ["Opaque"], "not_granted": "warn"})) == 0
}
