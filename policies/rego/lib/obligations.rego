# METADATA
# title: Obligations
# description: |
#   How the obligations of configuration, checks and grants are combined: the
#   strictest wins, and what has no strictest is a conflict.
# schemas:
#   - input: schema.input
package portcullis.lib.obligations

import data.portcullis.lib.grants

_stated := array.concat(
	[data.portcullis.config.obligations],
	[o | some name; o := data.portcullis.checks[name].obligations],
)

_values(key) := {value | some o in _stated; some name, value in o; name == key}

# A key that nobody here knows is passed on: the engine refuses the decision,
# since it could not enforce what the author relies on.
_unknown[key] := true if {
	some o in _stated
	some key in (object.keys(o) - {
		"max_file_mode", "required_fs_group", "ttl_seconds", "max_stale_seconds",
		"audit_level", "sync_allowed", "on_revoke", "on_expire", "audiences",
	})
}

_modes := _values("max_file_mode") | {g.max_file_mode | some g in grants.used}

_common_mode := grants.common_mode([{"max_file_mode": mode} | some mode in _modes])

default _mode := {}

_mode := {"max_file_mode": _common_mode} if count(_modes) > 0

_groups := _values("required_fs_group")

default _group := {}

_group := {"required_fs_group": max(_groups)} if count(_groups) == 1

_audience_lists := {{a | some a in list} | some list in _values("audiences")} | {{a | some a in g.audiences} |
	some g in grants.used
	g.audiences
}

_common_audiences := intersection(_audience_lists)

default _audiences := {}

_audiences := {"audiences": sort(_common_audiences)} if count(_common_audiences) > 0

_numbers[key] := min(_values(key)) if {
	some key in ["ttl_seconds", "max_stale_seconds"]
	count(_values(key)) > 0
}

_numbers["audit_level"] := max(_values("audit_level")) if count(_values("audit_level")) > 0

# Scrubbing is the stricter of the two. Any other word is passed on, and the
# engine refuses it.
_losses[key] := concat("|", {word | some word in _values(key); not _outdone(word, key)}) if {
	some key in ["on_revoke", "on_expire"]
	count(_values(key)) > 0
}

_outdone("keep", key) if "scrub" in _values(key)

default _sync := {}

_sync := {"sync_allowed": true} if {
	not false in _values("sync_allowed")
	some r in input.requests
	count(r.sync) > 0
	every i, request in input.requests {
		every target in object.get(request, "sync", []) {
			grants.sync_granted(i, target.name)
		}
	}
}

# METADATA
# description: The obligations of an allow.
combined := object.union_n([_unknown, _mode, _group, _audiences, _numbers, _losses, _sync])

# METADATA
# description: Obligations that cannot be met together.
# scope: document
conflicts contains {"name": "required_fs_group", "text": "several groups are required"} if count(_groups) > 1

conflicts contains {"name": "max_file_mode", "text": "no read bit is left"} if {
	count(_modes) > 0
	_common_mode == 0
}

conflicts contains {"name": "audiences", "text": "no audience is left"} if {
	count(_audience_lists) > 0
	count(_common_audiences) == 0
}
