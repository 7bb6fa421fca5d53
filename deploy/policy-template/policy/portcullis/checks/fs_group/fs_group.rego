# METADATA
# title: Group of the files
# description: |
#   With an fsGroup, files belong to that group and nobody else in the pod reads
#   them. Without one, and without an owner, every user of the pod can.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.fs_group

import data.portcullis.lib

# METADATA
# title: No fsGroup and no owner
# description: |
#   Unless their namespace is exempt, pods set an fsGroup, or the class gives every
#   file an owner. Containers that are shown to run as root need neither.
deny contains finding if {
	not _grouped
	not _owned
	not _root
	not lib.namespace_in(lib.setting("fs_group", "exempt", {}))
	finding := {
		"id": "PR-210",
		"severity": "medium",
		"message": "the pod sets no fsGroup, so every user in it could read the files",
		"remediation": "set securityContext.fsGroup in the pod to the group of its processes, or an owner for every file in the class",
	}
}

# METADATA
# title: Group root
# description: A container that sets a user and no group runs in group 0, which protects nothing.
deny contains finding if {
	input.volume.volumeMountGroup == 0
	finding := {
		"id": "PR-211",
		"severity": "medium",
		"message": "fsGroup is 0, the group of every container that sets none",
		"remediation": "set securityContext.fsGroup to a group above 0",
	}
}

_grouped if input.volume.volumeMountGroup >= 0

# The counts come first because every over nothing is true.
_owned if {
	count(input.requests) > 0
	every request in input.requests {
		request.uid >= 0
	}
}

_root if {
	count(lib.mounting_containers) > 0
	every container in lib.mounting_containers {
		container.runAsUser == 0
	}
}
