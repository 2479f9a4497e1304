#!/bin/sh
# Builds the peer, generates the same manifests for both, times both in pairs. The table goes to docs/benchmarks.md.
set -eu
cd "$(dirname "$0")/.."
[ -x build/kube-score ] || GOBIN=$PWD/build go install github.com/zegl/kube-score/cmd/kube-score@v1.20.0
go build -o build/bench-gen ./bench/gen
go run ./bench/compare "$@"
