# METADATA
# title: Tokens
# description: |
#   A verified token is the cluster's signature that this pod asks. Gates without
#   tokens, admission and the command line, leave these rules out.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.tokens

import data.portcullis.lib

_mode := lib.setting("tokens", "unverified", "deny")

# METADATA
# title: Tokens
# description: Denied with unverified=deny, and in the namespaces of deny_in.
deny contains finding if {
	_denied
	some finding in _findings
}

# METADATA
# title: Tokens, reported
# description: Reported with unverified=warn.
warn contains finding if {
	not _denied
	_mode == "warn"
	some finding in _findings
}

_denied if not _mode in {"warn", "allow"}

_denied if not lib.namespace_outside(lib.setting("tokens", "deny_in", {"namespaces": ["*"]}))

# METADATA
# title: No verified token
# description: A service account token confirms the pod.
_findings contains finding if {
	input.subject.tokenVerified == false
	finding := {
		"id": "PR-232",
		"severity": "high",
		"message": "no service account token confirms the pod",
		"remediation": "tell the platform team: list an audience in tokenRequests of the CSIDriver object",
	}
}

# METADATA
# title: Token not verified
# description: Of the tokens that go to the provider, every one was verified.
_findings contains finding if {
	tokens := input.tokens
	audiences := {lib.quoted(token.audience) | some token in tokens; not token.verified}
	count(audiences) > 0
	finding := {
		"id": "PR-233",
		"severity": "high",
		"message": sprintf("service account tokens that could not be verified, for audiences %s", [lib.listed(audiences, ", ")]),
		"remediation": "tell the platform team: the log of the plugin on the pod's node says why",
	}
}
