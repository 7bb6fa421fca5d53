# METADATA
# title: Privileged containers
# description: |
#   A privileged container can remount the volume writable and read what every
#   other container of the node has.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.privileged

import data.portcullis.lib

# METADATA
# title: Privileged container
# description: No container of the pod is privileged, whether it mounts the volume or not.
deny contains finding if {
	count(_privileged) > 0
	names := lib.listed(_privileged, ", ")
	finding := {
		"id": "PR-200",
		"severity": "critical",
		"message": sprintf("the pod has privileged containers: %s", [names]),
		"remediation": sprintf("remove securityContext.privileged from %s, or run them in a pod that mounts no secrets", [names]),
	}
}

_privileged := {lib.quoted(c.name) | some c in input.pod.containers; c.privileged}
