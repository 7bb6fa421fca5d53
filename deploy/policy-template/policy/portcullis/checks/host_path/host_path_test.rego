# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host_path_test

import data.portcullis.checks.host_path

_settings := {
	"protected": ["/var/lib/kubelet/pods", "/proc", "/var/lib/portcullis/"],
	"allowed": ["/var/log/", "/etc/ssl/certs.pem"],
	"unlisted": "deny",
}

_denied(paths, settings) := {finding.id | some finding in host_path.deny with input.pod.hostPaths as paths
	with data.portcullis.config.checks.host_path as settings}

_warned(paths, settings) := {finding.id | some finding in host_path.warn with input.pod.hostPaths as paths
	with data.portcullis.config.checks.host_path as settings}

test_pod_without_host_paths_is_allowed if {
	count(_denied([], _settings)) == 0
	count(host_path.deny) == 0 with input.pod as {"containers": []} with data.portcullis.config.checks.host_path as _settings
}

test_path_that_equals_contains_or_lies_inside_a_protected_one_is_denied[path] if {
	some path in [
		"/", "/var", "/var/lib", "/var/lib/kubelet", "/var/lib/kubelet/pods", "/var/lib/kubelet/pods/6a0f/volumes",
		"/proc", "/proc/1/root", "/var/lib/portcullis", "/var/lib/portcullis/audit",
	]
	_denied([path], _settings) == {"PR-205"}
}

test_path_beside_a_protected_one_is_not_listed[path] if {
	some path in ["/var/lib/kubelet/podsx", "/var/lib/kubelet/plugins", "/process", "/pro", "/var/lib/portcullis2"]
	_denied([path], _settings) == {"PR-202"}
}

test_unclean_path_to_a_protected_one_is_denied_twice[path] if {
	some path in [
		"/var/lib/kubelet/", "//", "//proc", "/var//lib/kubelet", "/var/./lib", "/proc/.", "/opt/../proc", "/var/log/../lib",
		"..", "proc", "./proc", "", ".",
	]
	_denied([path], _settings) == {"PR-205", "PR-206"}
}

test_unclean_path_elsewhere_is_denied[path] if {
	some path in ["/var/log/", "/var//log/pods", "/var/log/./x", "var/log"]
	_denied([path], _settings) == {"PR-206"}
}

test_listed_path_is_allowed[path] if {
	some path in ["/var/log", "/var/log/pods", "/etc/ssl/certs.pem"]
	count(_denied([path], _settings)) == 0
}

test_path_beside_a_listed_one_is_denied[path] if {
	some path in ["/var/logs", "/etc/ssl/certs.pem.d", "/etc/ssl"]
	_denied([path], _settings) == {"PR-202"}
}

test_protected_goes_before_listed if {
	_denied(["/proc/meminfo"], object.union(_settings, {"allowed": ["/proc/meminfo", "/"]})) == {"PR-205"}
}

# A path with .. is taken for one that leads to something protected.
test_path_that_leaves_a_listed_one_is_denied if {
	_denied(["/var/log/../x"], object.union(_settings, {"allowed": ["/"]})) == {"PR-205", "PR-206"}
}

test_unlisted_path_is_reported_or_allowed_by_setting if {
	warn := object.union(_settings, {"unlisted": "warn"})
	count(_denied(["/opt"], warn)) == 0
	_warned(["/opt"], warn) == {"PR-202"}
	count(_warned(["/var/log"], warn)) == 0
	allow := object.union(_settings, {"unlisted": "allow"})
	count(_denied(["/opt"], allow) | _warned(["/opt"], allow)) == 0
	count(_warned(["/opt"], _settings)) == 0
}

test_setting_does_not_reach_protected_and_unclean_paths if {
	allow := object.union(_settings, {"unlisted": "allow"})
	_denied(["/proc", "/opt/"], allow) == {"PR-205", "PR-206"}
}

test_without_settings_every_path_is_denied if {
	_denied(["/opt"], {}) == {"PR-205"}
	_denied(["/opt"], {"protected": []}) == {"PR-205"}
	_denied(["/opt"], {"protected": ["/proc"]}) == {"PR-202"}
	_denied(["/opt"], {"protected": ["/proc"], "unlisted": "Allow"}) == {"PR-202"}
	count(host_path.deny) == 1 with input.pod.hostPaths as ["/opt"]
}

test_many_paths_are_one_finding if {
	paths := [sprintf("/opt/%d", [i]) | some i in numbers.range(10, 99)]
	some finding in host_path.deny with input.pod.hostPaths as paths
		with data.portcullis.config.checks.host_path as _settings
	endswith(finding.message, `"/opt/17" and 82 more`)
}
