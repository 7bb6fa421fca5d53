# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.shared_processes_test

import data.portcullis.checks.shared_processes

_main(name) := {"name": name, "kind": "main", "mountsVolume": true}

_init := {"name": "mesh", "kind": "init", "mountsVolume": false}

_debugger := {"name": "debugger", "kind": "ephemeral", "mountsVolume": false}

_findings(shared, containers) := {finding |
	some finding in shared_processes.deny with input.pod as {"shareProcessNamespace": shared, "containers": containers}
}

test_containers_apart_are_allowed if count(_findings(false, [_main("a"), _main("b")])) == 0

test_containers_together_are_denied if {
	some finding in _findings(true, [_main("a"), _main("b")])
	finding.id == "PR-207"
	finding.message == `the pod shares one process namespace between its containers: "a", "b"`
}

test_one_container_is_allowed if count(_findings(true, [_main("a")])) == 0

test_init_container_is_denied_since_it_may_stay if {
	count(_findings(true, [_init, _main("a")])) == 1
	count(_findings(true, [_init, _main("a")])) == 1 with data.portcullis.config.checks.shared_processes as {"init_containers_end": false}
}

test_init_container_is_allowed_where_none_stays if {
	count(_findings(true, [_init, _main("a")])) == 0 with data.portcullis.config.checks.shared_processes as {"init_containers_end": true}
}

test_ephemeral_container_is_another_rule if count(_findings(true, [_main("a"), _debugger])) == 0
