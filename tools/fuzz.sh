#!/usr/bin/env bash
# Runs every fuzz target of the module for a bounded time each, found by
# asking the test binaries rather than from a list that could go stale:
#
#   tools/fuzz.sh 20s
set -euo pipefail

duration=${1:-20s} count=0
for package in $(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -r -n1 dirname | sort -u); do
	for target in $(go test -tags insecure -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "== $package $target for $duration"
		go test -tags insecure -run '^$' -fuzz "^$target\$" -fuzztime "$duration" \
			-fuzzminimizetime 10x "$package" # by default it takes a minute for each find
		count=$((count + 1))
	done
done
echo "$count fuzz targets, $duration each"
[ "$count" -gt 0 ] # no target is a broken search, not a pass
