# METADATA
# title: Default service account
# description: |
#   Every pod of the namespace that names no account has the default one, so a
#   grant to it would be a grant to all of them.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.service_account

import data.portcullis.lib

# METADATA
# title: Default service account
# description: Pods with secrets run as a service account of their own, unless their namespace is exempt.
deny contains finding if {
	input.subject.serviceAccount == "default"
	not lib.namespace_in(lib.setting("service_account", "exempt", {}))
	finding := {
		"id": "PR-231",
		"severity": "medium",
		"message": sprintf("the pod runs as the default service account of namespace %s", [input.subject.namespace]),
		"remediation": "make a service account for this workload, name it in serviceAccountName, and ask for the grant to name it",
	}
}
