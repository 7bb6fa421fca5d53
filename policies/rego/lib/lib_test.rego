# METADATA
# schemas:
#   - input: schema.input
package portcullis.lib_test

import data.portcullis.fixtures
import data.portcullis.lib

test_only_containers_with_the_volume_mount_it if {
	other := object.union(fixtures.container, {"name": "other", "mountsVolume": false})
	got := lib.mounting_containers with input.pod.containers as [other, fixtures.container]
	[c.name | some c in got] == ["api"]
}

test_read_bits if lib.read_bits(420) == 292

test_octal if lib.octal(288) == "0440"

test_image_repository[name] if {
	some name, want in {
		"nginx": "nginx",
		"nginx:1": "nginx",
		"registry:5000/a/b": "registry:5000/a/b",
		"registry:5000/a/b:1@sha256:aa": "registry:5000/a/b",
		"a/b@sha256:aa": "a/b",
	}
	lib.image_repository(name) == want
}

test_setting_that_is_missing_is_the_strictest if {
	lib.setting("a", "b", "deny") == "deny" with data.portcullis.config as {}
	lib.setting("a", "b", "deny") == "deny" with data.portcullis.config.checks as {"a": {}}
	lib.setting("a", "b", "deny") == "deny" with data.portcullis.config.checks as {"a": []}
	lib.setting("a", "b", "deny") == "warn" with data.portcullis.config.checks as {"a": {"b": "warn"}}
}

test_few_texts_are_listed_in_order if {
	lib.listed(["b", "a"], ", ") == "a, b"
	lib.listed({"b", "a"}, " and ") == "a and b"
	lib.listed(set(), ", ") == ""
}

test_of_many_texts_eight_are_listed if {
	lib.listed(["1", "2", "3", "4", "5", "6", "7", "8"], "") == "12345678"
	lib.listed(["9", "8", "7", "6", "5", "4", "3", "2", "1"], "") == "12345678 and 1 more"
}

test_texts_of_others_are_quoted_and_short if {
	lib.quoted("a\u001b[2Jb\n") == `"a\x1b[2Jb\n"`
	long := concat("", [text | some _ in numbers.range(1, 128); text := "x"])
	lib.quoted(long) == sprintf("%q", [long])
	lib.quoted(concat("", [long, "y"])) == sprintf("%q...", [long])
}

# Both helpers about namespaces, of a pod in payments with two labels, one of
# which counts: whether it is shown to be in, and shown to be outside.
_shown(selector) := {"in" | lib.namespace_in(selector)} | {"outside" | lib.namespace_outside(selector)}

_subject := {"namespace": "payments", "namespaceLabels": {"example.com/tier": "prod", "team": "pay"}}

test_namespaces_are_selected[selector] if {
	some selector, want in {
		{"namespaces": ["payments"]}: {"in"},
		{"namespaces": ["shop", "*"]}: {"in"},
		{"namespaces": ["shop"]}: {"outside"},
		{"namespaces": ["pay*"]}: {"outside"},
		{"namespaces": []}: {"outside"},
		{}: {"outside"},
		{"namespaceSelector": {"example.com/tier": "prod"}}: {"in"},
		{"namespaceSelector": {"example.com/tier": "dev"}}: {"outside"},
		{"namespaceSelector": {"example.com/region": "eu"}}: {"outside"},
		{"namespaceSelector": {"example.com/tier": "prod", "example.com/region": "eu"}}: {"outside"},
		{"namespaceSelector": {}}: {"outside"},
		{"namespaces": ["shop"], "namespaceSelector": {"example.com/tier": "prod"}}: {"in"},
		{"namespaces": ["payments"], "namespaceSelector": {"example.com/tier": "dev"}}: {"in"},
		# What shows nothing: a label that does not count, and other shapes.
		{"namespaceSelector": {"team": "pay"}}: set(),
		{"namespaceSelector": {"team": "other"}}: set(),
		{"namespaceSelector": {"example.com/tier": "prod", "team": "pay"}}: set(),
		{"namespaceSelector": {"example.com/tier": "dev", "team": "other"}}: set(),
		{"namespaceSelector": {"example.com/tier": true}}: set(),
		{"namespaceSelector": ["example.com/tier"]}: set(),
		{"namespaceSelector": "prod"}: set(),
		{"namespaces": "payments"}: set(),
		{"namespaces": {"payments": true}}: set(),
		{"namespaces": [1]}: set(),
		{"namespaces": 1}: set(),
		{"namespaceSelector": 1}: set(),
		{"namespace": ["shop"]}: set(),
		[]: set(),
	}
	_shown(selector) == want with input.subject as _subject
		with data.portcullis.config.namespace_label_keys as ["example.com/tier", "example.com/region"]
}

test_namespace_without_labels_is_outside_a_selector_by_label if {
	_shown({"namespaceSelector": {"example.com/tier": "prod"}}) == {"outside"} with input.subject as {"namespace": "payments"}
		with data.portcullis.config.namespace_label_keys as ["example.com/tier"]
}
