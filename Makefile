# Everything that a person or CI runs. Needs Go, make and git; `make help` lists the targets.

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
KUBERNETES := 1.37.2
KUBEVER    := k8s.io/component-base/version
LABFLAGS   := -s -w -X $(KUBEVER).gitVersion=v$(KUBERNETES) -X $(KUBEVER).gitMajor=1 -X $(KUBEVER).gitMinor=37 -X $(KUBEVER).gitTreeState=clean
PLATFORM   := platforms/intelgraph/platform.yaml
LINT       := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Without cgo the product and the lab share what the Go cache has of Kubernetes, and the binaries run anywhere.
export CGO_ENABLED := 0
export BULWARK_LAB := $(CURDIR)/build/bulwark-lab

.DEFAULT_GOAL := help
.PHONY: help build lab demo test lint render check-render bench fuzz clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: build/bulwark ## build build/bulwark

build/bulwark: FORCE
	@go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/bulwark

lab: build/bulwark-lab ## build build/bulwark-lab, a real kube-apiserver with etcd in one process

build/bulwark-lab: FORCE
	@test -x $@ || echo "building the lab, a real kube-apiserver; the first time this takes some minutes …"
	@cd lab && go build -trimpath -ldflags '$(LABFLAGS)' -o ../$@ ./cmd/bulwark-lab

demo: build lab ## the main job: deploy, validate, attack and report, on a real API server that is gone afterwards
	@scripts/demo.sh $(PLATFORM)

test: lab ## every test that needs neither root nor long builds
	@go test ./...
	@cd lab && go test ./...

lint: ## gofmt, go vet, golangci-lint, shellcheck
	@test -z "$$(gofmt -l cmd internal bench test lab)" || { gofmt -l cmd internal bench test lab; exit 1; }
	@go vet ./... && (cd lab && go vet ./...)
	@test -x build/golangci-lint || GOBIN=$(CURDIR)/build go install $(LINT)
	@build/golangci-lint run ./...
	@command -v shellcheck >/dev/null || { echo "shellcheck is missing: apt-get install shellcheck"; exit 1; }
	@shellcheck scripts/*.sh .ci/run

render: build ## compile the committed files again
	@build/bulwark render -f $(PLATFORM)

check-render: build ## fail when the committed files are not what the platform compiles to
	@build/bulwark render -f $(PLATFORM) --check

bench: build ## measure against the peers; results go to docs/benchmarks.md
	@bench/run.sh

fuzz: ## fuzz each parser of foreign input for half a minute
	@scripts/fuzz.sh

clean: ## remove what was built
	@rm -rf build

FORCE:
