# METADATA
# title: Built-in checks
# description: The checks that hold for every bundle. Their ids are below PR-200.
# schemas:
#   - input: schema.input
package portcullis.lib.builtin

import data.portcullis.lib
import data.portcullis.lib.grants

_who := sprintf("service account %s in namespace %s", [input.subject.serviceAccount, input.subject.namespace])

# METADATA
# title: No live grant
# description: Every secret that could be read needs a live grant for this subject.
deny contains finding if {
	some secret, gs in grants.live
	count(gs) == 0
	not startswith(secret, "unparsed:")
	finding := {
		"id": "PR-001",
		"check": "live_grant",
		"severity": "high",
		"secret": secret,
		"message": sprintf("no live grant lets %s have %s", [_who, secret]),
		"remediation": concat("; ", [text |
			some text in [
				sprintf("ask the owner of %s for a grant to %s", [secret, _who]),
				lib.listed(grants.misses(secret), "; "),
			]
			text != ""
		]),
		"waivable": false,
	}
}

# METADATA
# title: Required check is missing
# description: A check that the configuration requires must be in the bundle.
deny contains finding if {
	some name in data.portcullis.config.required_checks
	not _present(name)
	finding := {
		"id": "PR-002",
		"check": "required_checks",
		"severity": "critical",
		"message": sprintf("the required check %s is not in the policy bundle", [name]),
		"remediation": sprintf("tell the security team: restore the check %s, or take it off required_checks", [name]),
		"waivable": false,
	}
}

# METADATA
# title: Overridden parameter
# description: Whoever writes the pod must not change what the class asks for.
deny contains finding if {
	some name in input.volume.overrides
	not name in data.portcullis.config.allowed_overrides
	finding := {
		"id": "PR-010",
		"check": "overrides",
		"severity": "high",
		"message": sprintf("volumeAttributes of the pod override parameter %s of class %s", [name, input.spc.name]),
		"remediation": sprintf("remove %s from volumeAttributes and set it in the SecretProviderClass", [name]),
		"waivable": true,
	}
}

# METADATA
# title: Unparsed request
# description: What could not be read for certain is granted under its whole id or not at all.
deny contains finding if {
	some r in input.requests
	startswith(r.secret, "unparsed:")
	count(grants.live[r.secret]) == 0
	finding := {
		"id": "PR-013",
		"check": "unparsed_request",
		"severity": "high",
		"secret": r.secret,
		"message": sprintf("the parameters of class %s cannot be read for certain: %s", [
			input.spc.name,
			object.get(r, "parseError", "no reason given"),
		]),
		"remediation": sprintf("correct the parameters of the class, or ask for a grant that names %s in full", [r.secret]),
		"waivable": false,
	}
}

# METADATA
# title: Scoping parameter not granted
# description: Parameters that choose the identity at the backend are those of one grant, exactly.
deny contains finding if {
	some secret, gs in grants.live
	count(gs) > 0
	count(grants.scoped[secret]) == 0
	finding := {
		"id": "PR-020",
		"check": "scoping",
		"severity": "high",
		"secret": secret,
		"message": sprintf("no live grant for %s has the scoping parameters of class %s: %s", [
			secret, input.spc.name,
			concat(", ", sort({name | some g in gs; some name in _scoping_differs(g)})),
		]),
		"remediation": "set these parameters as the grant lists them, or ask for a grant that lists them with these values",
		"waivable": false,
	}
}

# METADATA
# title: Owner not granted
# description: A file gets an owner of its own only where one grant names that owner.
deny contains finding if {
	some i, r in input.requests
	count(grants.scoped[r.secret]) > 0
	count(grants.usable[i]) == 0
	finding := {
		"id": "PR-101",
		"check": "file_owner",
		"severity": "high",
		"secret": r.secret,
		"message": sprintf("no grant lets user %d own file %s", [r.uid, _file(r)]),
		"remediation": sprintf("remove ownerUID of file %s and use fsGroup, or ask for a grant with ownerUID %d", [_file(r), r.uid]),
		"waivable": false,
	}
}

# METADATA
# title: File mode beyond the grant
# description: A file mode that a user asks for stays within every grant that serves it.
deny contains finding if {
	some i, r in input.requests
	count(grants.usable[i]) > 0
	allowed := grants.common_mode(grants.usable[i])
	bits.and(lib.read_bits(r.mode), allowed) != lib.read_bits(r.mode)
	finding := {
		"id": "PR-100",
		"check": "file_mode",
		"severity": "high",
		"secret": r.secret,
		"message": sprintf("mode %s of file %s is beyond %s, the most that is granted", [lib.octal(r.mode), _file(r), lib.octal(allowed)]),
		"remediation": sprintf("set filePermission of file %s to %q or less", [_file(r), lib.octal(allowed)]),
		"waivable": false,
	}
}

# METADATA
# title: Copy not granted
# description: |
#   Copies in Secret objects are made only where a grant names the target. One
#   finding holds all of them: whoever writes classes chooses how many there are.
warn contains finding if {
	count(grants.targets_not_granted) > 0
	names := lib.listed(grants.targets_not_granted, ", ")
	finding := {
		"id": "PR-030",
		"check": "sync_target",
		"severity": "low",
		"message": sprintf("no grant lists these Secrets as targets of copies: %s", [names]),
		"remediation": sprintf("ask for a grant with these in syncTargets, or remove them from secretObjects: %s", [names]),
		"waivable": false,
	}
}

# The decision asks for deny anyway, while the whole package would be every helper
# of the check as well.
_present(name) if data.portcullis.checks[name].deny

_present(name) if data.portcullis.checks[name]

_scoping_differs(g) := {name |
	some name in (object.keys(g.scoping) | object.keys(_scoping))
	object.get(g.scoping, name, null) != object.get(_scoping, name, null)
}

_scoping := object.get(input.spc, "scoping", {})

_file(r) := object.get(r, "file", "")
