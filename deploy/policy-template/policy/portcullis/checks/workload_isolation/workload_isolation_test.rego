# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.workload_isolation_test

import data.portcullis.checks.workload_isolation

_app := {
	"name": "app", "image": "registry.example/app:1", "kind": "main",
	"privileged": false, "allowPrivilegeEscalation": false, "mountsVolume": true,
}

_pod := {
	"hostPID": false, "hostIPC": false, "hostNetwork": false, "hostUsers": true,
	"shareProcessNamespace": false, "containers": [_app],
}

_ids(pod) := {finding.id | some finding in workload_isolation.deny with input.pod as pod
	with data.portcullis.config.checks.workload_isolation.host_paths as ["/var/log/", "/etc/ssl/certs.pem"]}

_with(container) := object.union(_pod, {"containers": [object.union(_app, container)]})

test_plain_pod_is_allowed if count(_ids(_pod)) == 0

test_privileged_container_is_denied if _ids(_with({"privileged": true})) == {"PR-200"}

test_every_powerful_capability_is_denied if {
	every name in ["ALL", "SYS_ADMIN", "CAP_SYS_ADMIN", "sys_ptrace", "DAC_READ_SEARCH", "SYS_MODULE"] {
		_ids(_with({"capabilities": [name]})) == {"PR-200"}
	}
}

test_harmless_capability_is_allowed if count(_ids(_with({"capabilities": ["NET_BIND_SERVICE"]}))) == 0

test_host_namespaces_are_denied if {
	_ids(object.union(_pod, {"hostPID": true})) == {"PR-201"}
	_ids(object.union(_pod, {"hostIPC": true})) == {"PR-201"}
}

test_host_path_is_denied if _ids(object.union(_pod, {"hostPaths": ["/var/lib/kubelet"]})) == {"PR-202"}

test_tolerated_host_path_is_allowed if {
	every path in ["/var/log/pods", "/etc/ssl/certs.pem"] {
		count(_ids(object.union(_pod, {"hostPaths": [path]}))) == 0
	}
}

test_path_that_leaves_a_tolerated_one_is_denied if {
	every path in ["/var/logs", "/var/log/../lib", "/etc/ssl/certs.pem.d", "/var/log/./x/../.."] {
		_ids(object.union(_pod, {"hostPaths": [path]})) == {"PR-202"}
	}
}

test_ephemeral_container_with_the_volume_is_denied if _ids(_with({"kind": "ephemeral"})) == {"PR-203"}

test_ephemeral_container_without_the_volume_is_allowed if {
	count(_ids(_with({"kind": "ephemeral", "mountsVolume": false}))) == 0
}

test_findings_say_what_to_do if {
	some finding in workload_isolation.deny with input.pod as _with({"privileged": true})
	finding.message == "container app is privileged"
	startswith(finding.remediation, "remove privileged")
}
