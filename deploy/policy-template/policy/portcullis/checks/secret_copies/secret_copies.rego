# METADATA
# title: Copies in Secret objects
# description: |
#   A copy is in etcd and readable by whoever may read Secrets in the namespace.
#   The library makes none that no grant lists (PR-030).
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.secret_copies

import data.portcullis.lib
import data.portcullis.lib.grants

# METADATA
# title: Type of a copy
# description: |
#   A copy has a type of the list. Kubernetes acts on some types: it fills one of
#   kubernetes.io/service-account-token with a token of any account.
deny contains finding if {
	count(_refused_types) > 0
	finding := {
		"id": "PR-240",
		"severity": "high",
		"message": sprintf("class %s wants copies of a type that is not allowed: %s", [input.spc.name, lib.listed(_refused_types, ", ")]),
		"remediation": "set type of these secretObjects to Opaque or another type that is allowed",
	}
}

# METADATA
# title: Copy not granted
# description: Unless not_granted=warn, a class that wants a copy which no grant lists is refused as a whole.
deny contains finding if {
	lib.setting("secret_copies", "not_granted", "deny") != "warn"
	count(grants.targets_not_granted) > 0
	names := lib.listed({lib.quoted(name) | some name in grants.targets_not_granted}, ", ")
	finding := {
		"id": "PR-241",
		"severity": "medium",
		"message": sprintf("class %s wants copies that no grant lists: %s", [input.spc.name, names]),
		"remediation": sprintf("remove them from secretObjects, or ask for a grant with these in syncTargets: %s", [names]),
	}
}

# Without a type no copy is made.
_refused_types := {sprintf("%s of Secret %s", [lib.quoted(target.type), lib.quoted(target.name)]) |
	some request in input.requests
	some target in request.sync
	target.type != ""
	not target.type in lib.setting("secret_copies", "types", [])
}
