# METADATA
# title: Shared processes
# description: |
#   Where containers share their processes, one that has not the volume reads
#   it in /proc/<pid>/root of another that runs as the same user.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.shared_processes

import data.portcullis.lib

# METADATA
# title: Shared process namespace
# description: A pod of several containers does not share one process namespace.
deny contains finding if {
	input.pod.shareProcessNamespace
	count(_together) > 1
	finding := {
		"id": "PR-207",
		"severity": "high",
		"message": sprintf("the pod shares one process namespace between its containers: %s", [lib.listed(_together, ", ")]),
		"remediation": "remove shareProcessNamespace from the pod, or run one container in it",
	}
}

_together := {lib.quoted(c.name) | some c in input.pod.containers; _stays(c)}

_stays(container) if container.kind == "main"

# One with restartPolicy Always is a sidecar and stays; the input does not tell.
_stays(container) if {
	container.kind == "init"
	lib.setting("shared_processes", "init_containers_end", false) != true
}
