# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.fs_group_test

import data.portcullis.checks.fs_group

_ids(volume, namespace) := {finding.id | some finding in fs_group.deny with input.volume as volume
	with input.subject.namespace as namespace
	with data.portcullis.config.checks.fs_group.exempt_namespaces as ["legacy"]}

_volume := {"name": "secrets", "readOnly": true, "ephemeral": true}

test_volume_with_a_group_is_allowed if {
	count(_ids(object.union(_volume, {"volumeMountGroup": 2000}), "payments")) == 0
}

test_volume_without_a_group_is_denied if _ids(_volume, "payments") == {"PR-210"}

test_exempt_namespace_is_allowed if count(_ids(_volume, "legacy")) == 0

test_group_root_is_denied if {
	_ids(object.union(_volume, {"volumeMountGroup": 0}), "payments") == {"PR-211"}
	_ids(object.union(_volume, {"volumeMountGroup": 0}), "legacy") == {"PR-211"}
}
