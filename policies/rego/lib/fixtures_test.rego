# METADATA
# title: Fixtures
# description: A complete input and a grant that covers it, for the tests of the library.
package portcullis.fixtures

now_ns := 1768478400000000000

day_ns := 86400000000000

secret := "local://node/payments/db#password@3"

request := {"secret": secret, "file": "db"}

container := {
	"name": "api", "image": "registry.example:5000/payments/api:1.4@sha256:aa", "kind": "main",
	"privileged": false, "allowPrivilegeEscalation": false, "mountsVolume": true,
	"signature": {"verified": true, "by": ["key:ci"]},
}

facts := {
	"contract": "portcullis/v1", "phase": "mount", "now_ns": now_ns, "cluster": "test",
	"subject": {
		"namespace": "payments", "serviceAccount": "api", "podName": "api-0", "podUID": "u",
		"namespaceLabels": {"example.com/team": "pay", "example.com/tier": "prod"},
	},
	"pod": {
		"hostPID": false, "hostIPC": false, "hostNetwork": false, "hostUsers": true, "shareProcessNamespace": false,
		"owner": {"kind": "StatefulSet", "name": "api"}, "containers": [container],
	},
	"spc": {"name": "db", "provider": "local", "parametersSha256": "00"},
	"volume": {"name": "secrets", "readOnly": true, "ephemeral": true, "volumeMountGroup": 2000},
	"requests": [request],
}

grant := {"id": "G-1", "owner": "team", "not_after_ns": now_ns + 1, "provider": "local", "scoping": {}}

config := {
	"required_checks": [], "obligations": {}, "allowed_overrides": [], "namespace_label_keys": ["example.com/team"],
	"monitor": {"until_ns": 0, "rules": []}, "checks": {},
}

# filed returns an index with the grant under one key.
filed(g) := {"payments/api": {"local://node/payments/": [g]}}

# with_request returns the facts with other fields in their one request.
with_request(fields) := object.union(facts, {"requests": [object.union(request, fields)]})
