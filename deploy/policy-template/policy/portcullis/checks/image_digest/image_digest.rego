# METADATA
# title: Images by digest
# description: |
#   A tag names another image tomorrow, which then reads the same secrets.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.image_digest

import data.portcullis.lib

# METADATA
# title: Image without digest
# description: Where it is demanded, every container of the pod names its image by digest.
deny contains finding if {
	not lib.namespace_outside(lib.setting("image_digest", "required_in", {"namespaces": ["*"]}))
	count(_tagged) > 0
	finding := {
		"id": "PR-230",
		"severity": "medium",
		"message": sprintf("images without a digest: %s", [lib.listed(_tagged, ", ")]),
		"remediation": "name each image as repository@sha256:digest, which a build can do from the tag",
	}
}

_tagged := {sprintf("%s of container %s", [lib.quoted(c.image), lib.quoted(c.name)]) |
	some c in input.pod.containers
	not regex.match(`^[^@]+@sha256:[0-9a-f]{64}$`, c.image)
}
