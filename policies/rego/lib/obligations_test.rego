# METADATA
# schemas:
#   - input: schema.input
package portcullis.lib.obligations_test

import data.portcullis.fixtures
import data.portcullis.lib.obligations

# _both evaluates with configured obligations, those of a check, and a grant.
_both(configured, checked, g) := [both.combined, {c.name | some c in both.conflicts}] if {
	both := obligations with input as fixtures.facts
		with data.portcullis.config as object.union(fixtures.config, {"obligations": configured})
		with data.portcullis.checks as {"tier": {"obligations": checked}}
		with data.portcullis.grants.by_subject as fixtures.filed(object.union(fixtures.grant, g))
}

test_nothing_stated_is_nothing_obliged if _both({}, {}, {}) == [{}, set()]

test_modes_are_intersected if {
	_both({"max_file_mode": 292}, {}, {"max_file_mode": 288}) == [{"max_file_mode": 288}, set()]
	_both({"max_file_mode": 32}, {"max_file_mode": 256}, {}) == [{"max_file_mode": 0}, {"max_file_mode"}]
}

test_shortest_time_wins if {
	_both({"ttl_seconds": 60, "max_stale_seconds": 5}, {"ttl_seconds": 30}, {}) == [{"ttl_seconds": 30, "max_stale_seconds": 5}, set()]
}

test_highest_audit_level_wins if _both({"audit_level": 1}, {"audit_level": 2}, {}) == [{"audit_level": 2}, set()]

test_one_group_is_required if {
	_both({"required_fs_group": 5}, {"required_fs_group": 5}, {}) == [{"required_fs_group": 5}, set()]
	_both({"required_fs_group": 5}, {"required_fs_group": 6}, {}) == [{}, {"required_fs_group"}]
}

test_scrubbing_wins_over_keeping if {
	_both({"on_revoke": "keep", "on_expire": "keep"}, {"on_revoke": "scrub"}, {}) == [{"on_revoke": "scrub", "on_expire": "keep"}, set()]
}

test_unknown_words_are_passed_on if {
	_both({"on_revoke": "burn"}, {}, {})[0] == {"on_revoke": "burn"}
	_both({}, {"shred_times": 7}, {})[0] == {"shred_times": true}
}

test_audiences_are_intersected if {
	_both({"audiences": ["b", "a"]}, {}, {"audiences": ["a", "b", "c"]}) == [{"audiences": ["a", "b"]}, set()]
	_both({"audiences": ["a"]}, {}, {"audiences": ["b"]}) == [{}, {"audiences"}]
}

_sync := {"sync": [{"name": "db", "type": "Opaque", "key": "password"}]}

_synced(configured, request, g) := object.get(combined, "sync_allowed", false) if {
	combined := obligations.combined with input as fixtures.with_request(request)
		with data.portcullis.config as object.union(fixtures.config, {"obligations": configured})
		with data.portcullis.grants.by_subject as fixtures.filed(object.union(fixtures.grant, g))
}

test_copies_are_allowed_where_granted if _synced({}, _sync, {"sync_targets": ["db"]}) == true

test_copies_are_denied_otherwise if {
	_synced({}, _sync, {}) == false
	_synced({}, _sync, {"sync_targets": ["other"]}) == false
	_synced({"sync_allowed": false}, _sync, {"sync_targets": ["db"]}) == false
	_synced({"sync_allowed": true}, {}, {"sync_targets": ["db"]}) == false
}
