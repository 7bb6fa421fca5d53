# METADATA
# title: TLS to the backend
# description: |
#   Without TLS, or without verifying it, anybody on the way to the backend can
#   read the secrets and the pod's token, and answer with secrets of their own.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.tls

import data.portcullis.lib

_scoping := object.get(input.spc, "scoping", {})

# Scoping has the switches of known providers spelt in one way, so it goes first.
_parameters := object.union(object.get(input.spc, "parameters", {}), _scoping)

# METADATA
# title: TLS not verified
# description: |
#   A parameter that skips verification is off. A value that is not shown, as
#   with providers that nobody here knows, is not known to be off.
deny contains finding if {
	count(_skipping) > 0
	names := lib.listed(_skipping, ", ")
	finding := {
		"id": "PR-221",
		"severity": "critical",
		"message": sprintf("class %s does not verify the backend: %s", [input.spc.name, names]),
		"remediation": sprintf("remove from the class, and give the provider the certificate authority of the backend: %s", [names]),
	}
}

# METADATA
# title: No TLS
# description: The address of the backend does not begin with http:, unless it is listed.
deny contains finding if {
	count(_plain) > 0
	names := lib.listed(_plain, ", ")
	finding := {
		"id": "PR-222",
		"severity": "critical",
		"message": sprintf("class %s asks the backend without TLS: %s", [input.spc.name, names]),
		"remediation": sprintf("use an address that begins with https:// in %s", [names]),
	}
}

_skipping := {lib.quoted(name) |
	some name, value in _parameters
	_skips(name)
	not lower(trim_space(value)) in {"", "0", "f", "false"}
}

# vaultSkipTLSVerify, baoSkipTLSVerify, openbaoSkipTLSVerify, and what others call it.
_skips(name) if {
	some part in {"insecure", "skipssl", "skiptls", "skipverif", "tlsskip"}
	contains(replace(replace(lower(name), "-", ""), "_", ""), part)
}

_plain := {lib.quoted(name) |
	some name, value in _scoping
	startswith(lower(trim_space(value)), "http:")
	not value in lib.setting("tls", "plain_addresses", [])
}
