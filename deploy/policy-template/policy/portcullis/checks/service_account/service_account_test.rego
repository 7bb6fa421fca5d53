# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.service_account_test

import data.portcullis.checks.service_account

_findings(name, exempt) := {finding |
	some finding in service_account.deny with input.subject as {"namespace": "payments", "serviceAccount": name}
		with data.portcullis.config.checks.service_account.exempt as exempt
}

test_account_of_its_own_is_allowed if count(_findings("api", {"namespaces": []})) == 0

test_default_account_is_denied if {
	some finding in _findings("default", {"namespaces": ["shop"]})
	finding.id == "PR-231"
	finding.message == "the pod runs as the default service account of namespace payments"
}

test_default_account_of_an_exempt_namespace_is_allowed if count(_findings("default", {"namespaces": ["payments"]})) == 0

test_without_settings_no_namespace_is_exempt if {
	count(service_account.deny) == 1 with input.subject as {"namespace": "payments", "serviceAccount": "default"}
}
