# Every target works on a machine that has Go and make, and nothing else.
# What needs another tool is skipped by name; .ci/run installs those tools.

GO       ?= go
TOOL     := $(GO) tool -modfile=tools.mod
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
BENCH    ?= .

.PHONY: help build run test check fuzz bench fmt clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## build bin/parley
	@$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/parley ./cmd/parley

run: build ## build and start a demo relay on loopback, and say what to try
	@bin/parley serve

test: ## all that a change must pass: every test, with the race detector, in random order
	$(GO) test -race -shuffle=on ./...
	$(GO) test -run 'Alloc|Garbage' ./host/... # what the race detector cannot measure

check: ## formatting, vet, staticcheck, tidy modules
	@out=$$($(TOOL) gofumpt -l cmd host examples); test -z "$$out" || { echo "not formatted (make fmt mends it):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) mod verify >/dev/null

fmt: ## format the sources
	$(TOOL) gofumpt -w cmd host examples

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$f ($$pkg)"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
		done; \
	done

bench: ## benchmarks of the hot path, with allocations
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./host/msrp ./host/relay

clean: ## remove what the targets made
	rm -rf bin
