#!/usr/bin/env bash
# The linters of the house: golangci-lint for Go, in release and development
# builds, since neither sees all files; opa and regal for Rego.
set -euo pipefail
cd "$(dirname "$0")/.."

# tagged lists the packages with files of these build tags.
tagged() {
	grep -rlE "^//go:build .*\\b($1)\\b" --include='*.go' . | xargs -r -n1 dirname | sort -u
}

golangci=$(tools/tool.sh golangci golangci-lint)
"$golangci" run ./...
"$golangci" run --build-tags insecure ./cmd/...
# And the tests against a real API server.
tagged integration | xargs "$golangci" run --build-tags insecure,integration
# And the tests on a whole node.
tagged e2e | xargs -r "$golangci" run --build-tags insecure,e2e,nightly
# And the tests that only make attack runs, and what only they are built with.
tagged 'attack|faultpoints' | xargs "$golangci" run --build-tags insecure,attack,faultpoints
# And the modules of their own, which ./... does not see: same rules, but for
# what they exist for. Not those of test/cluster, which would mean all of Kubernetes.
for module in test/*/go.mod deploy/*/go.mod; do
	(cd "$(dirname "$module")" && "$golangci" run --build-tags nightly ./...)
done

# Policy is tested by go test, which also demands full rule coverage; here is
# what only the tools know: format, strict mode with the input's schema, style.
schemas=$(mktemp -d)
trap 'rm -rf "$schemas"' EXIT
cp policies/input.schema.json "$schemas/input.json" # the name makes it schema.input
opa=$(tools/tool.sh opa opa)
unformatted=$("$opa" fmt --list policies/rego)
[ -z "$unformatted" ] || { echo "not as opa fmt would write it: $unformatted" >&2; exit 1; }
"$opa" check --strict --schema "$schemas" policies/rego
"$(tools/tool.sh regal regal)" lint policies/rego
