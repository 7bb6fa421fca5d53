# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.debug_container_test

import data.portcullis.checks.debug_container

_app := {"name": "app", "kind": "main", "mountsVolume": true}

_debugger := {"name": "debugger-x", "kind": "ephemeral", "mountsVolume": false}

_findings(containers) := {finding | some finding in debug_container.deny with input.pod.containers as containers}

test_pod_as_it_was_written_is_allowed if count(_findings([_app, object.union(_app, {"kind": "init"})])) == 0

test_ephemeral_container_without_the_volume_is_denied if {
	some finding in _findings([_app, _debugger])
	finding.id == "PR-203"
	finding.message == `the pod has ephemeral containers: "debugger-x"`
}

test_ephemeral_container_with_the_volume_is_denied if {
	count(_findings([_app, object.union(_debugger, {"mountsVolume": true})])) == 1
}
