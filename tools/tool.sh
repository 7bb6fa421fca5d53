#!/usr/bin/env bash
# Prints the path of a development tool, building it first when this version
# of it was never built on this machine:
#
#   tools/tool.sh golangci golangci-lint
#
# Tools live in modules of their own, so that what they import never reaches
# the product's go.mod. Binaries are kept outside the clone, named after the
# hash of what they were built from: a fresh clone finds them ready.
set -euo pipefail

module=$1 binary=$2
here=$(cd "$(dirname "$0")" && pwd)
cache=${PORTCULLIS_TOOLS:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/portcullis/tools}
if ! mkdir -p "$cache" 2>/dev/null || ! [ -w "$cache" ]; then
	cache=$here/../.tools # no home directory: ignored by git
	mkdir -p "$cache"
fi

key=$({ cat "$here/$module/go.mod" "$here/$module/go.sum"; go version; } | sha256sum | cut -c1-16)
dir=$cache/$module-$key
if ! [ -x "$dir/$binary" ]; then
	echo "building $binary (once per version)" >&2
	# A directory of its own and one rename: two builds at once do not
	# meet, and an interrupted one leaves nothing that looks finished.
	scratch=$(mktemp -d "$cache/.build.XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
	(cd "$here/$module" && CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$scratch/" tool) >&2
	mkdir -p "$dir"
	mv -f "$scratch/$binary" "$dir/$binary"
fi
echo "$dir/$binary"
