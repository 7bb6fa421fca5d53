#!/usr/bin/env bash
# Runs the tests that are compiled only with the build tag attack: hostile pods,
# providers and crashes, too long for every "go test". They are found in the
# files, not in a list that could go stale:
#
#   tools/attack.sh [arguments for go test]
set -euo pipefail

files=$(grep -rlE '^//go:build .*\battack\b' --include='*_test.go' . | sort)
[ -n "$files" ] || { echo 'tools/attack.sh: no test file has the build tag attack' >&2; exit 1; }
for dir in $(xargs -n1 dirname <<<"$files" | sort -u); do
	names=$(grep -hoE '^func Test[A-Za-z0-9_]+\(t ' $(grep -E "^$dir/[^/]+\$" <<<"$files") | sed -E 's/^func (.*)\(t /\1/' | paste -sd '|')
	[ -n "$names" ] || continue
	echo "== $dir"
	REQUIRE_ROOT=1 go test -tags insecure,attack -count=1 -timeout 20m -run "^($names)\$" "$@" "$dir"
done
# A confined process at its work, where a system call that the filter does not
# know ends it.
echo "== ./hardening, with a filter that kills"
REQUIRE_ROOT=1 go test -tags insecure,faultpoints -count=1 -run 'Violations|Confined|TheRuntimeNeeds' "$@" ./hardening
