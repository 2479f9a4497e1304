#!/bin/sh
# The main job, end to end: starts a real API server, hardens it, attacks it, writes the report, and leaves nothing
# behind but build/. Called by `make demo`; takes the Platform spec as its argument.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = inside ]; then
	platform=$2
	echo "2. deploy: every object at stage enforce, each policy seen to act by a request that it must refuse"
	build/bulwark deploy -f "$platform" --stage enforce >build/deploy.log 2>&1 || { cat build/deploy.log; exit 1; }
	tail -n 1 build/deploy.log | sed 's/^/   /'
	echo "3. validate: what the cluster has, against what the spec says"
	# Findings do not end the demo: they are what the report is for.
	build/bulwark validate -f "$platform" --context bulwark-lab -o json >build/validate.json 2>build/validate.log || [ $? -ne 2 ] || { cat build/validate.log; exit 1; }
	build/bulwark validate -f "$platform" --context bulwark-lab 2>/dev/null | tail -n 1 | sed 's/^/   /'
	echo "4. prove: every attack and its harmless twin, then again with each control removed in turn"
	code=0
	build/bulwark prove -f "$platform" --ablate --disposable --save build/prove.json >build/prove.log || code=$?
	sed '$d' build/prove.log | sed 's/^/   /'
	build/bulwark report -f "$platform" --context bulwark-lab --prove build/prove.json --validate build/validate.json -o build/report.html >/dev/null 2>build/report.log || { cat build/report.log; exit 1; }
	[ "$code" -eq 0 ] || { tail -n 1 build/prove.log; exit "$code"; }
	echo "next: open build/report.html · read $platform · bulwark render --explain 'NetworkPolicy intelgraph-production/default-deny'"
	echo "      on your cluster: bulwark deploy -f platform.yaml --stage audit, then warn, then enforce"
	echo "$(tail -n 1 build/prove.log) · report: build/report.html"
	exit 0
fi

platform=${1:-platforms/intelgraph/platform.yaml}
build/bulwark render -f "$platform" --check >build/render.log 2>&1 || { cat build/render.log; exit 1; }
echo "1. compile: $platform becomes the committed files, byte for byte; a real kube-apiserver starts"
exec build/bulwark-lab --static-policies k8s/security/static -- "$0" inside "$platform"
