# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.capabilities_test

import data.portcullis.checks.capabilities

_app := {"name": "app", "kind": "main", "mountsVolume": true}

_findings(containers, settings) := {finding | some finding in capabilities.deny with input.pod.containers as containers
	with data.portcullis.config.checks.capabilities as settings}

_settings := {"allowed": ["NET_BIND_SERVICE", "cap_chown"]}

_adding(names) := [object.union(_app, {"capabilities": names})]

test_container_without_capabilities_is_allowed if {
	count(_findings([_app], _settings)) == 0
	count(_findings(_adding([]), _settings)) == 0
}

test_listed_capability_is_allowed_in_every_spelling[name] if {
	some name in ["NET_BIND_SERVICE", "CAP_NET_BIND_SERVICE", "net_bind_service", "cap_chown", "CHOWN"]
	count(_findings(_adding([name]), _settings)) == 0
}

test_other_capability_is_denied_in_every_spelling[name] if {
	some name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "ALL", "all", "NET_BIND", "of tomorrow", ""]
	{finding.id | some finding in _findings(_adding([name]), _settings)} == {"PR-204"}
}

test_container_without_the_volume_is_denied if {
	other := {"name": "other", "kind": "init", "capabilities": ["SYS_PTRACE"], "mountsVolume": false}
	count(_findings([_app, other], _settings)) == 1
}

test_finding_says_which_and_why if {
	some finding in _findings(_adding(["CHOWN", "SYS_ADMIN", "SYS_ODD"]), _settings)
	finding.message == concat("", [
		`containers of the pod add capabilities: `,
		`"SYS_ADMIN" by "app" (remounts the volume writable), "SYS_ODD" by "app"`,
	])
	endswith(finding.remediation, `: "SYS_ADMIN", "SYS_ODD"`)
}

test_without_settings_every_capability_is_denied if {
	count(_findings(_adding(["CHOWN"]), {})) == 1
	count(capabilities.deny) == 1 with input.pod.containers as _adding(["CHOWN"])
}
