# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.fs_group_test

import data.portcullis.checks.fs_group

_volume := {"name": "secrets", "readOnly": true, "ephemeral": true}

_grouped(gid) := object.union(_volume, {"volumeMountGroup": gid})

_container(fields) := object.union({"name": "app", "kind": "main", "mountsVolume": true}, fields)

_request(fields) := object.union({"secret": "local://node/a", "file": "a"}, fields)

_ids(volume, containers, requests) := {finding.id |
	some finding in fs_group.deny with input.volume as volume
		with input.pod.containers as containers
		with input.requests as requests
		with input.subject.namespace as "payments"
}

_user := [_container({"runAsUser": 1000})]

test_volume_with_a_group_is_allowed if count(_ids(_grouped(2000), _user, [_request({})])) == 0

test_neither_group_nor_owner_is_denied if _ids(_volume, _user, [_request({})]) == {"PR-210"}

test_files_with_owners_are_allowed if {
	count(_ids(_volume, _user, [_request({"uid": 1000})])) == 0
	count(_ids(_volume, _user, [_request({"uid": 0}), _request({"uid": 1})])) == 0
}

test_one_file_without_an_owner_is_denied if {
	_ids(_volume, _user, [_request({"uid": 1000}), _request({})]) == {"PR-210"}
	_ids(_volume, _user, []) == {"PR-210"}
}

test_containers_that_run_as_root_are_allowed if {
	count(_ids(_volume, [_container({"runAsUser": 0}), _container({"runAsUser": 1000, "mountsVolume": false})], [_request({})])) == 0
}

test_user_that_is_not_known_is_denied if {
	_ids(_volume, [_container({})], [_request({})]) == {"PR-210"}
	_ids(_volume, [_container({"runAsUser": 0}), _container({})], [_request({})]) == {"PR-210"}
	_ids(_volume, [], [_request({})]) == {"PR-210"}
}

test_exempt_namespace_is_allowed if {
	exempt := {"namespaces": ["payments"]}
	count(_ids(_volume, _user, [_request({})])) == 0 with data.portcullis.config.checks.fs_group.exempt as exempt
	_ids(_grouped(0), _user, [_request({})]) == {"PR-211"} with data.portcullis.config.checks.fs_group.exempt as exempt
}

test_other_namespace_is_denied if {
	_ids(_volume, _user, [_request({})]) == {"PR-210"} with data.portcullis.config.checks.fs_group.exempt as {"namespaces": ["shop"]}
}

test_group_root_is_denied if _ids(_grouped(0), _user, [_request({})]) == {"PR-211"}
