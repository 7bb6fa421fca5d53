# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.provider_test

import data.portcullis.checks.provider

_findings(name) := {finding | some finding in provider.deny with input.spc as {"name": "db", "provider": name}}

test_listed_provider_is_allowed if {
	count(_findings("vault")) == 0 with data.portcullis.config.checks.provider.allowed as ["local", "vault"]
}

test_other_provider_is_denied if {
	some finding in _findings("Vault") with data.portcullis.config.checks.provider.allowed as ["local", "vault"]
	finding.id == "PR-220"
	finding.message == `provider "Vault" of class db is not allowed`
}

test_without_settings_every_provider_is_denied if count(_findings("vault")) == 1
