# METADATA
# title: Group of the files
# description: |
#   With an fsGroup, files belong to that group and nobody else in the pod reads
#   them. Without one they are readable by every user of the pod.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.fs_group

_settings := data.portcullis.config.checks.fs_group

# METADATA
# title: Missing fsGroup
# description: Pods set an fsGroup, unless their namespace is exempt.
deny contains finding if {
	not _grouped
	not input.subject.namespace in _settings.exempt_namespaces
	finding := {
		"id": "PR-210",
		"severity": "medium",
		"message": "the pod sets no fsGroup, so every user in it could read the files",
		"remediation": "set securityContext.fsGroup in the pod to the group of its processes",
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
