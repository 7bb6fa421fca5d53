# METADATA
# title: Capabilities
# description: |
#   Containers add capabilities from a list of those that reach neither the
#   volume, nor other processes, nor the node.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.capabilities

import data.portcullis.lib

# What those that are refused most often would undo, for the message.
_undoes := {
	"ALL": "everything",
	"BPF": "reads the memory of the kernel",
	"CHECKPOINT_RESTORE": "reads the memory of other processes",
	"DAC_OVERRIDE": "reads past file modes",
	"DAC_READ_SEARCH": "reads past file modes, and opens files of the node by handle",
	"PERFMON": "traces every process of the node",
	"SYS_ADMIN": "remounts the volume writable",
	"SYS_BOOT": "loads another kernel",
	"SYS_MODULE": "loads code into the kernel",
	"SYS_PTRACE": "reads the memory and, through /proc, the files of other processes",
	"SYS_RAWIO": "reads the memory of the node",
}

# METADATA
# title: Powerful capability
# description: No container of the pod adds a capability that is not listed.
deny contains finding if {
	count(_refused) > 0
	finding := {
		"id": "PR-204",
		"severity": "critical",
		"message": sprintf("containers of the pod add capabilities: %s", [lib.listed(_refused, ", ")]),
		"remediation": sprintf("remove from capabilities.add, or run the container in a pod without secrets: %s", [lib.listed(_names, ", ")]),
	}
}

_added := {[_name(capability), c.name] |
	some c in input.pod.containers
	some capability in c.capabilities
	not _name(capability) in _allowed
}

_refused := {sprintf("%s by %s%s", [lib.quoted(name), lib.quoted(container), _why(name)]) | some [name, container] in _added}

_names := {lib.quoted(name) | some [name, _] in _added}

_allowed := {_name(capability) | some capability in lib.setting("capabilities", "allowed", [])}

# Container runtimes accept each of CAP_SYS_ADMIN, SYS_ADMIN and sys_admin.
_name(capability) := trim_prefix(upper(capability), "CAP_")

_why(name) := sprintf(" (%s)", [_undoes[name]])

_why(name) := "" if not _undoes[name]
