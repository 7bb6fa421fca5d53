# METADATA
# title: Workload isolation
# description: |
#   Pods that can act on the node or on other pods get no secrets: they could
#   undo what protects them, and those of their neighbours.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.workload_isolation

# Each of these lets a container mount, trace or read past file permissions.
_powerful := {"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH"}

# METADATA
# title: Privileged container
# description: A privileged container can remount the volume writable and read every other.
deny contains finding if {
	some container in input.pod.containers
	some why in _powers(container)
	finding := {
		"id": "PR-200",
		"severity": "critical",
		"message": sprintf("container %s %s", [container.name, why]),
		"remediation": sprintf("remove privileged and these capabilities from container %s, or run it in a pod of its own", [container.name]),
	}
}

# METADATA
# title: Host namespaces
# description: In the process namespace of the node, any process can be looked into.
deny contains finding if {
	some field, used in {
		"hostPID": input.pod.hostPID,
		"hostIPC": input.pod.hostIPC,
	}
	used
	finding := {
		"id": "PR-201",
		"severity": "high",
		"message": sprintf("the pod sets %s", [field]),
		"remediation": sprintf("remove %s from the pod", [field]),
	}
}

# METADATA
# title: Host path
# description: A path of the node may lead to the volumes of other pods.
deny contains finding if {
	some path in input.pod.hostPaths
	not _tolerated(path)
	finding := {
		"id": "PR-202",
		"severity": "high",
		"message": sprintf("the pod mounts path %s of the node", [path]),
		"remediation": "remove the hostPath volume, or ask the security team for a waiver",
	}
}

# METADATA
# title: Debug container
# description: A container that somebody added to a running pod was reviewed by nobody.
deny contains finding if {
	some container in input.pod.containers
	container.kind == "ephemeral"
	container.mountsVolume
	finding := {
		"id": "PR-203",
		"severity": "high",
		"message": sprintf("ephemeral container %s mounts the volume", [container.name]),
		"remediation": "debug without mounting the secrets volume",
	}
}

_powers(container) := {"is privileged" | container.privileged} | {why |
	some capability in container.capabilities
	name := trim_prefix(upper(capability), "CAP_")
	name in _powerful
	why := sprintf("has capability %s", [name])
}

_tolerated(path) if path in data.portcullis.config.checks.workload_isolation.host_paths

_tolerated(path) if {
	elements := {element | some element in split(path, "/")}
	count(elements & {".", ".."}) == 0
	some allowed in data.portcullis.config.checks.workload_isolation.host_paths
	startswith(path, concat("", [trim_suffix(allowed, "/"), "/"]))
}
