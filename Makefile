# Every target works on a machine that has Go and make, and nothing else.
# What needs another tool is skipped by name; .ci/run installs those tools.

GO       ?= go
TOOL     := $(GO) tool -modfile=tools.mod
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
BENCH    ?= .
NFPM     := $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
SOURCES  := cmd host sdk plugins examples

.PHONY: help build run plugins test check gen guests fuzz bench microbench deb fmt clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## build bin/parley
	@$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/parley ./cmd/parley

run: build ## build and start a demo relay on loopback, and say what to try
	@bin/parley serve

plugins: ## build the shipped plugins to bin/plugins
	@mkdir -p bin/plugins
	@for dir in plugins/*/; do \
		name=$$(basename $$dir); \
		GOOS=wasip1 GOARCH=wasm $(GO) build -buildmode=c-shared -trimpath -ldflags '-s -w' -o bin/plugins/$$name.wasm ./plugins/$$name || exit 1; \
	done; ls -l bin/plugins

test: ## all that a change must pass: every test, with the race detector, in random order
	$(GO) test -race -shuffle=on ./...
	$(GO) test -run 'Alloc|Garbage|GoPlugin' ./host/... ./cmd/... # what the race detector cannot measure, or not in time

check: ## formatting, vet, other systems, staticcheck, tidy modules
	@out=$$($(TOOL) gofumpt -l $(SOURCES)); test -z "$$out" || { echo "not formatted (make fmt mends it):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./sdk/go/... ./plugins/... ./examples/plugin-go
	@for os in windows darwin; do GOOS=$$os $(GO) build -o /dev/null ./cmd/parley || exit 1; done
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) mod verify >/dev/null

fmt: ## format the sources
	$(TOOL) gofumpt -w $(SOURCES)

gen: ## write what comes from sdk/abi/registry.json: constants of all SDKs, ABI.md, parley.wit
	$(GO) run ./sdk/abi/gen

guests: ## rebuild testdata/guests, octet for octet (clang, lld, wabt, Debian's rustc, npm)
	@for script in testdata/guests/*/build.sh; do echo "== $$script"; sh $$script || exit 1; done
	@cp testdata/guests/example-c.wasm cmd/parley/demo.wasm

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$f ($$pkg)"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
		done; \
	done

bench: build ## what a message costs in Parley, a byte forwarder and, if it is installed, Kamailio (10 minutes; see BENCHMARKS.md)
	bin/parley bench compare --markdown bin/bench/table.md --json bin/bench/results.json --svg bin/bench/latency.svg $(ARGS)

microbench: ## benchmarks of the hot path, with allocations, and what load costs
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./host/msrp ./host/relay ./host/wasm
	PARLEY_LOAD=1 $(GO) test -count=1 -run '^TestLoad' -v ./host

# A version that dpkg orders: 1.2.3, 1.2.3+4.gabc after it, and before the first 0~DATE.COMMIT.
deb: export DEB_VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/; s/-/./'),$(shell git log -1 --date=format:%Y%m%d --format=0~%cd.%h))
deb: export ARCH ?= $(shell $(GO) env GOARCH)
deb: export CGO_ENABLED = 0
deb: build plugins ## build a Debian package in bin
	@GOOS= GOARCH= $(NFPM) package -f cmd/parley/dist/nfpm.yaml -p deb -t bin/

clean: ## remove what the targets made
	rm -rf bin
