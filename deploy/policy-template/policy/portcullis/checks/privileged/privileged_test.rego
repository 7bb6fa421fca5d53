# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.privileged_test

import data.portcullis.checks.privileged

_app := {"name": "app", "kind": "main", "privileged": false, "mountsVolume": true}

_findings(containers) := {finding | some finding in privileged.deny with input.pod.containers as containers}

test_plain_container_is_allowed if count(_findings([_app])) == 0

test_privileged_container_is_denied if {
	some finding in _findings([object.union(_app, {"privileged": true})])
	finding.id == "PR-200"
	finding.message == `the pod has privileged containers: "app"`
}

test_privileged_container_without_the_volume_is_denied if {
	other := {"name": "other", "kind": "init", "privileged": true, "mountsVolume": false}
	count(_findings([_app, other])) == 1
}
