# METADATA
# title: Providers
# description: |
#   A provider sees the secrets that it serves and the tokens of the pods that
#   ask. Only those that the platform team runs are asked.
# schemas:
#   - input: schema.input
# labels:
#   owner: platform-security
package portcullis.checks.provider

import data.portcullis.lib

# METADATA
# title: Provider not allowed
# description: The provider of the class is one of the list.
deny contains finding if {
	not input.spc.provider in lib.setting("provider", "allowed", [])
	finding := {
		"id": "PR-220",
		"severity": "high",
		"message": sprintf("provider %s of class %s is not allowed", [lib.quoted(input.spc.provider), input.spc.name]),
		"remediation": "use a provider that the platform team runs, or ask the security team to list this one",
	}
}
