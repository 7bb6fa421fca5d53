#!/usr/bin/env bash
# Runs the tests under the race detector, as release builds:
#
#   tools/race.sh [arguments for go test]
#
# It leaves out the packages whose test binaries never run code of ours at the
# same time as other code of ours: there the detector can see nothing, and takes
# some twenty times as long. A new package is never left out by itself, and
# test/docs/race_test.go fails when one of these starts to be concurrent.
# One more of the others than there are processors runs at a time: half of what they
# do is to wait.
set -euo pipefail

sequential='deploy policies policies/check policies/eval policies/explain policies/kube policies/kube/workload policies/learn policies/policiestest policies/rego policies/secretref policies/testrun test/docs test/rbac'

module=github.com/portcullis-csi/portcullis
all=$(go list ./...)
left=$(printf "$module/%s\n" $sequential)
if gone=$(grep -vxF "$all" <<<"$left"); then
	sed 's/^/tools\/race.sh: /; s/$/: no such package; hint: take it off the list/' <<<"$gone" >&2
	exit 1
fi
CGO_ENABLED=1 exec go test -race -p "$(($(nproc) + 1))" "$@" $(grep -vxF "$left" <<<"$all")
