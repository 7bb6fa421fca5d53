# Every target works in a fresh clone with Go, gcc (race detector), git and make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FUZZTIME ?= 20s
BENCHTIME ?= 1s
BENCH ?= .
TESTFLAGS ?=
IMAGE ?=

# The development builds: they alone may use unsigned policy and manifests
# from a directory, and they say so in every start line and event.
INSECURE := -tags insecure
# Packages with tests that need root, and packages whose tests rewrite files.
ROOT_PACKAGES = $(shell grep -rlE 'hardeningtest\.Need(Root|Kernel)' --include='*_test.go' . | xargs -r -n1 dirname | sort -u)
# With ROOT_FOLLOWS=1 the unit stage leaves the packages of make root to it.
UNIT_PACKAGES = $(if $(ROOT_FOLLOWS),$(filter-out $(patsubst ./%,github.com/portcullis-csi/portcullis/%,$(ROOT_PACKAGES)),$(shell go list ./...)),./...)
GENERATED_PACKAGES = $(shell grep -rlE 'flag\.Bool."update"' --include='*_test.go' . | xargs -r -n1 dirname | sort -u)
INTEGRATION_PACKAGES = $(shell grep -rlE '^//go:build .*\bintegration\b' --include='*_test.go' . | xargs -r -n1 dirname | sort -u)
MODULES = . $(patsubst %/go.mod,%,$(wildcard tools/*/go.mod test/*/go.mod test/*/*/go.mod test/*/*/*/go.mod deploy/*/go.mod))

.PHONY: help build demo test race root attack fuzz conformance integration e2e e2e-build lab lab-down bench nightly lint vuln generate verify image chart cover clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

build: ## Build release binaries into bin/, development ones into bin/insecure/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...
	CGO_ENABLED=0 go build -trimpath $(INSECURE) -o bin/insecure/ ./cmd/...

demo: ## Play allowed, denied and rotated mounts on real sockets (needs root)
	CGO_ENABLED=0 go build -trimpath $(INSECURE) -o bin/insecure/ ./cmd/...
	bin/insecure/portcullis demo

test: ## Check what needs no root: lint, unit and policy tests, race detector
	@tools/stages.sh lint='$(MAKE) lint' unit='go test $(INSECURE) $(TESTFLAGS) $(UNIT_PACKAGES)' race='$(MAKE) race'

race: ## Run all concurrent tests under the race detector, as release builds
	@tools/race.sh $(TESTFLAGS)

root: ## Run the tests that need root; a skip for want of it is a failure
	@[ "$$(id -u)" = 0 ] || { echo 'make root: needs root: it mounts tmpfs and starts processes of other users' >&2; exit 1; }
	REQUIRE_ROOT=1 go test $(INSECURE) -count=1 $(TESTFLAGS) $(or $(ROOT_PACKAGES),no-package-has-a-root-test)

attack: ## Run the long hostile pods, providers and crashes as root
	@[ "$$(id -u)" = 0 ] || { echo 'make attack: needs root: it mounts, swaps and kills' >&2; exit 1; }
	@tools/attack.sh $(TESTFLAGS)

fuzz: ## Fuzz every target for FUZZTIME each (20s)
	@tools/fuzz.sh $(FUZZTIME)

conformance: ## Run the CSI sanity suite, tessera on logs, cosign on bundles (needs root)
	@[ "$$(id -u)" = 0 ] || { echo 'make conformance: needs root: it mounts tmpfs' >&2; exit 1; }
	for module in tessera cosign; do (cd test/$$module && go test -count=1 $(TESTFLAGS) .); done
	cd test/conformance && REQUIRE_ROOT=1 go test -count=1 $(TESTFLAGS) .

integration: ## Run the tests against a real etcd and kube-apiserver (needs root)
	@[ "$$(id -u)" = 0 ] || { echo 'make integration: needs root: the plugin mounts tmpfs' >&2; exit 1; }
	go run ./test/cluster build
	@tools/tool.sh helm helm >/dev/null
	REQUIRE_ROOT=1 go test -tags insecure,integration -count=1 $(TESTFLAGS) $(or $(INTEGRATION_PACKAGES),no-package-has-an-integration-test)

e2e: e2e-build ## Run the end-to-end tests under a real kubelet (needs root)
	REQUIRE_ROOT=1 go test -tags insecure,e2e$(NIGHTLY:%=,nightly) -count=1 -p 1 -parallel 64 -timeout 40m $(TESTFLAGS) ./test/cluster/lab ./test/e2e

e2e-build: # What the end-to-end tests need beside their own program
	@[ "$$(id -u)" = 0 ] || { echo 'make $(or $(MAKECMDGOALS),e2e): needs root: it starts a kubelet' >&2; exit 1; }
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/portcullis
	$(MAKE) image IMAGE="--platform linux/$$(go env GOARCH)"
	go run ./test/cluster build $(PORTCULLIS_E2E_KUBERNETES:%=--kubernetes %)
	tools/tool.sh helm helm

lab: e2e-build ## Start a one-node Kubernetes with the driver and a sample in it (needs root)
	go run ./test/cluster up && go run ./test/cluster install

lab-down: ## Stop the one-node Kubernetes and leave nothing behind
	go run ./test/cluster down

bench: ## Run the benchmarks (BENCH=regexp, BENCHTIME=1s)
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

nightly: ## Run the long forms of tests, and those on an older Kubernetes (needs root)
	PORTCULLIS_NIGHTLY=1 go test -tags attack -count=1 -timeout 60m -v -run '^TestP7AFlood' ./audit/log
	go test -count=10 -timeout 30m -run '^TestP7Kill' ./audit/log
	cd deploy/image && go test -tags nightly -count=1 -timeout 60m -run '^TestProductIsTheSameFromNothing$$' .
	PORTCULLIS_E2E_KUBERNETES=1.35 $(MAKE) e2e NIGHTLY=1
	@tools/fuzz.sh 5m

lint: ## Run golangci-lint, opa check and regal
	tools/lint.sh

vuln: ## Look up known vulnerabilities of what the binaries link
	@tools/vuln.sh

generate: ## Rewrite schemas, golden files and generated tables
	go generate ./...
	for package in $(GENERATED_PACKAGES); do (cd "$$package" && go test . -update); done

verify: generate ## Fail if generated files, go.mod or formatting are not as committed
	for module in $(MODULES); do (cd "$$module" && go mod tidy -diff && go mod verify); done
	"$$(tools/tool.sh golangci golangci-lint)" fmt --diff
	GOOS=darwin CGO_ENABLED=0 go build -o /dev/null ./cmd/portcullis
	git diff --exit-code
	[ -z "$$(git status --porcelain)" ] || { git status --short; exit 1; }

image: ## Build the container images into bin/images (IMAGE=flags, as in IMAGE=--insecure)
	GOTOOLCHAIN=go$(shell sed -n 's/^go //p' go.mod) go run -C deploy/image . --source ../.. $(IMAGE)

chart: ## Check and package the Helm chart
	cd test/chart && go test $(TESTFLAGS) ./... && go run ./pack ../../deploy/chart ../../bin

cover: ## Report statement coverage by package
	mkdir -p bin && go test $(INSECURE) -coverpkg=./... -coverprofile=bin/cover.out ./...
	go tool cover -func=bin/cover.out | tools/cover.awk

clean: ## Remove what the targets above made inside the clone
	rm -rf bin .tools
