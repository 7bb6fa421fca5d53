#!/usr/bin/awk -f
# Sums the per-function lines of `go tool cover -func` up by package: the mean
# over functions, and the total over statements as Go computes it.
/^total:/ { total = $NF; next }
{
	file = $1
	sub(/\/[^\/]*$/, "", file)
	functions[file]++
	covered[file] += $NF
}
END {
	for (package in functions)
		printf "%6.1f%%  %4d functions  %s\n", covered[package] / functions[package], functions[package], package | "sort -k4"
	close("sort -k4")
	print "total over statements: " total
}
