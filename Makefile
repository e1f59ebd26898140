# sbx: every target with its purpose is listed by "make help".
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# One static binary: the init stage is the same file, started where no loader
# and no library of the host is promised, and it starts faster.
STATIC  := -tags netgo,osusergo,urfave_cli_no_docs -trimpath -ldflags '-s -w -X main.version=$(VERSION) -linkmode external -extldflags "-static"'
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
SOAK    ?= 120
SCRIPT  ?= testdata/py/tour.py

.PHONY: help bootstrap build run test test-cgroup2 test-kernel lint fmt vet fuzz bench soak mutate golden clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bootstrap: ## install the system packages that are missing (asks nothing when there are none)
	@scripts/bootstrap

build: bootstrap ## build ./sbx
	@CGO_ENABLED=1 go build $(STATIC) -o sbx ./cmd/sbx

run: build ## build sbx and run a sample script under --profile strict
	@status=0; ./sbx run --profile strict --report sbx-report.json $(SCRIPT) || status=$$?; \
	echo "exit status of sbx: $$status; the report: $(CURDIR)/sbx-report.json"; exit $$status

test: bootstrap ## all tests, race detector on: as root and as a plain user where root runs it
	@scripts/test

test-cgroup2: bootstrap ## limits and verdicts on a real cgroup v2, as root, plain user and under systemd (in User-Mode Linux)
	@scripts/test-cgroup2

test-kernel: bootstrap ## jail, limits, stacks and promises on Debian's stock kernel, and hosts that refuse (in QEMU)
	@scripts/test-kernel

lint: bootstrap ## golangci-lint with the rules of .golangci.yml
	@go run $(LINT) run ./...

fmt: ## format the code
	@gofmt -w cmd pkg profiles

vet: bootstrap ## go vet
	@go vet ./...

fuzz: build ## every fuzz target, and random system calls in the jail, for FUZZTIME each
	@scripts/fuzz $(FUZZTIME)
	@scripts/fuzz-jail --seconds $(FUZZTIME:s=)

bench: build ## cold start against python3 and bubblewrap, interleaved and paired
	@scripts/bench

soak: build ## runs without a pause for SOAK seconds: throughput, and what stays behind
	@scripts/soak --seconds $(SOAK)

mutate: bootstrap ## take each mechanism of the security table away and see its tests fail (a quarter of an hour, as root)
	@scripts/mutate

golden: bootstrap ## rewrite the golden files from what the code does now
	@go test ./cmd/sbx ./pkg/profile ./pkg/report ./pkg/seccomp -update

clean: ## remove what was built
	@rm -rf sbx sbx-report.json bin
