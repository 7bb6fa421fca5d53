# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.tls_test

import data.portcullis.checks.tls

_spc := {"name": "db", "provider": "vault", "parametersSha256": "00"}

_ids(fields) := {finding.id | some finding in tls.deny with input.spc as object.union(_spc, fields)
	with data.portcullis.config.checks.tls.plain_addresses as ["http://127.0.0.1:8200"]}

test_class_without_parameters_is_allowed if count(_ids({})) == 0

test_verification_that_is_off_is_denied[name] if {
	some name in [
		"vaultSkipTLSVerify", "baoSkipTLSVerify", "openbaoSkipTLSVerify", "VAULT_SKIP_TLS_VERIFY", "tls-skip-verify", "InsecureSkipVerify",
		"insecure", "skipSSLVerification", "skip_verify",
	]
	_ids({"scoping": {name: "true"}}) == {"PR-221"}
	_ids({"parameters": {name: "true"}}) == {"PR-221"}
}

test_every_spelling_of_true_is_denied[value] if {
	some value in ["true", "TRUE", "True", "T", "t", "1", " true", "yes", "on", "(present)"]
	_ids({"scoping": {"vaultSkipTLSVerify": value}}) == {"PR-221"}
}

test_verification_that_is_on_is_allowed[value] if {
	some value in ["false", "FALSE", "F", "0", "", " false "]
	count(_ids({"scoping": {"vaultSkipTLSVerify": value}})) == 0
}

# The library spells the switch in one way in scoping only.
test_scoping_goes_before_parameters if {
	count(_ids({"scoping": {"vaultSkipTLSVerify": "false"}, "parameters": {"vaultSkipTLSVerify": "(present)"}})) == 0
	_ids({"scoping": {"vaultSkipTLSVerify": "true"}, "parameters": {"vaultSkipTLSVerify": "false"}}) == {"PR-221"}
}

test_parameters_of_other_names_are_allowed if {
	count(_ids({"parameters": {"roleName": "true", "vaultTLSServerName": "1"}, "scoping": {"vaultCACertPath": "/ca"}})) == 0
}

test_address_without_tls_is_denied[address] if {
	some address in ["http://vault.example:8200", "HTTP://vault.example", " http://vault.example", "http://127.0.0.1:8200/"]
	_ids({"scoping": {"vaultAddress": address}}) == {"PR-222"}
}

test_address_with_tls_is_allowed if {
	count(_ids({"scoping": {"vaultAddress": "https://vault.example:8200", "roleName": "httpd"}})) == 0
}

test_listed_address_without_tls_is_allowed if {
	count(_ids({"scoping": {"vaultAddress": "http://127.0.0.1:8200"}})) == 0
}

test_without_settings_every_address_without_tls_is_denied if {
	count(tls.deny) == 1 with input.spc as object.union(_spc, {"scoping": {"applianceUrl": "http://127.0.0.1:8200"}})
}
