# METADATA
# title: Paths of the node
# description: |
#   A hostPath volume may lead to the volumes of other pods, to the keys of the
#   log, to the sockets of providers, or to whatever makes a container root.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.host_path

import data.portcullis.lib

_mode := lib.setting("host_path", "unlisted", "deny")

_directories := lib.setting("host_path", "protected", [])

_paths := {path | some path in input.pod.hostPaths}

# METADATA
# title: Protected host path
# description: |
#   No hostPath equals, contains or lies inside a protected directory. Without a
#   list of these, every path counts as one.
deny contains finding if {
	count(_protected) > 0
	names := lib.listed({lib.quoted(path) | some path in _protected}, ", ")
	finding := {
		"id": "PR-205",
		"severity": "critical",
		"message": sprintf("the pod mounts paths of the node that reach protected directories: %s", [names]),
		"remediation": sprintf("remove the hostPath volumes %s, or mount a directory that holds nothing but what the pod needs", [names]),
	}
}

# METADATA
# title: Unclean host path
# description: A hostPath is absolute, without empty elements, without . and .., and without a slash at its end.
deny contains finding if {
	count(_unclean) > 0
	names := lib.listed({lib.quoted(path) | some path in _unclean}, ", ")
	finding := {
		"id": "PR-206",
		"severity": "high",
		"message": sprintf("the pod mounts paths of the node that are not written out: %s", [names]),
		"remediation": sprintf("write hostPath without //, ., .. and the slash at the end: %s", [names]),
	}
}

# METADATA
# title: Unlisted host path, denied
# description: A hostPath that reaches nothing protected is allowed only where it is listed, or lies inside a listed one.
deny contains _finding if {
	count(_unlisted) > 0
	not _mode in {"warn", "allow"}
}

# METADATA
# title: Unlisted host path, reported
# description: With the setting unlisted=warn, what is not listed is only reported.
warn contains _finding if {
	count(_unlisted) > 0
	_mode == "warn"
}

# METADATA
# title: Unlisted host path
_finding := {
	"id": "PR-202",
	"severity": "high",
	"message": sprintf("the pod mounts paths of the node that are not listed: %s", [_names]),
	"remediation": sprintf("use an emptyDir or a persistent volume in place of hostPath %s, or ask the security team to list it", [_names]),
}

_names := lib.listed({lib.quoted(path) | some path in _unlisted}, ", ")

_protected := {path | some path in _paths; not _apart(path)}

_unclean := {path | some path in _paths; not _clean(path)}

_unlisted := {path |
	some path in _paths
	not path in _protected
	not _listed(path)
}

# What .. leads to depends on the links of the node.
_apart(path) if {
	elements := _elements(path)
	not ".." in elements
	count(_directories) > 0
	every directory in _directories {
		not _overlap(elements, _elements(directory))
	}
}

_listed(path) if {
	some directory in lib.setting("host_path", "allowed", [])
	_begins(_elements(path), _elements(directory))
}

_overlap(one, other) if _begins(one, other)

_overlap(one, other) if _begins(other, one)

# Whole elements are compared, so that /var/logs is not inside /var/log.
_begins(path, start) if array.slice(path, 0, count(start)) == start

_elements(path) := [element | some element in split(path, "/"); not element in {"", "."}]

_clean("/")

_clean(path) if {
	startswith(path, "/")
	every element in array.slice(split(path, "/"), 1, strings.count(path, "/") + 1) {
		not element in {"", ".", ".."}
	}
}
