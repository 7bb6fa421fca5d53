# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.image_digest_test

import data.portcullis.checks.image_digest

_digest := "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"

_container(image) := {"name": "app", "image": image, "kind": "main", "mountsVolume": false}

_findings(images, selector) := {finding |
	some finding in image_digest.deny with input.subject as {"namespace": "payments"}
		with input.pod.containers as [_container(image) | some image in images]
		with data.portcullis.config.checks.image_digest.required_in as selector
}

_required := {"namespaces": ["payments"]}

test_image_by_digest_is_allowed[image] if {
	some image in [concat("@", ["registry.example:5000/app", _digest]), concat("@", ["app:1", _digest])]
	count(_findings([image], _required)) == 0
}

test_image_by_tag_is_denied[image] if {
	some image in ["app", "app:1", "app@sha256:b5bb", concat("@", ["", _digest]), sprintf("app@%s0", [_digest]), ""]
	{finding.id | some finding in _findings([image], _required)} == {"PR-230"}
}

test_every_container_is_asked if {
	some finding in _findings([concat("@", ["app", _digest]), "sidecar:1"], _required)
	finding.message == `images without a digest: "sidecar:1" of container "app"`
}

test_tag_is_allowed_where_nothing_is_required if {
	count(_findings(["app:1"], {"namespaces": []})) == 0
	count(_findings(["app:1"], {"namespaces": ["shop"]})) == 0
}

test_without_settings_every_tag_is_denied if {
	count(image_digest.deny) == 1 with input.subject as {"namespace": "payments"} with input.pod.containers as [_container("app:1")]
}
