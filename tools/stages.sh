#!/usr/bin/env bash
# Runs named commands one after the other and says how long each took:
#
#   tools/stages.sh lint='make lint' unit='go test ./...'
#
# The first failure ends the run with its exit code; the table is printed
# either way.
set -uo pipefail

table=() failed=0
for stage in "$@"; do
	name=${stage%%=*} command=${stage#*=}
	printf '\n== %s: %s\n' "$name" "$command"
	begin=$(date +%s.%N)
	bash -euo pipefail -c "$command"
	failed=$?
	seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
	verdict=ok
	[ "$failed" -eq 0 ] || verdict="FAILED (exit code $failed)"
	printf -- '-- %s: %s in %s s\n' "$name" "$verdict" "$seconds"
	table+=("$(printf '%-12s %8s s  %s' "$name" "$seconds" "$verdict")")
	[ "$failed" -eq 0 ] || break
done

printf '\n'
printf '%s\n' "${table[@]}"
exit "$failed"
