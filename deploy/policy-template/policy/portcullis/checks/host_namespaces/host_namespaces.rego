# METADATA
# title: Host namespaces
# description: |
#   In the process namespace of the node any process, and through /proc its root
#   directory, can be looked into; in its IPC namespace, any shared memory.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.host_namespaces

import data.portcullis.lib

# METADATA
# title: Host namespaces
# description: The pod shares neither the processes nor the IPC of the node.
deny contains finding if {
	count(_shared) > 0
	names := lib.listed(_shared, " and ")
	finding := {
		"id": "PR-201",
		"severity": "high",
		"message": sprintf("the pod sets %s", [names]),
		"remediation": sprintf("remove %s from the pod", [names]),
	}
}

_shared := {name |
	some name, used in {"hostPID": input.pod.hostPID, "hostIPC": input.pod.hostIPC}
	used
}
