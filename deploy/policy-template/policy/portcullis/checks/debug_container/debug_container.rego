# METADATA
# title: Debug containers
# description: |
#   A container that somebody added to a running pod was reviewed by nobody, and
#   reads the files of the others through /proc without mounting anything.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.debug_container

import data.portcullis.lib

# METADATA
# title: Debug container
# description: A pod with secrets has no ephemeral container, whether it mounts the volume or not.
deny contains finding if {
	count(_ephemeral) > 0
	names := lib.listed(_ephemeral, ", ")
	finding := {
		"id": "PR-203",
		"severity": "high",
		"message": sprintf("the pod has ephemeral containers: %s", [names]),
		"remediation": "debug a copy of the pod without its secrets, and replace this pod: an ephemeral container cannot be removed",
	}
}

_ephemeral := {lib.quoted(c.name) | some c in input.pod.containers; c.kind == "ephemeral"}
