#!/bin/sh
# The guide's command: deploys the platform's hardening, validates it, or reports on it.
# A thin wrapper around bulwark; what follows the word is passed on to it.
set -eu

usage() {
	cat <<'END'
usage: deploy-security-hardening.sh [deploy|validate|report] [FLAGS]

  deploy    put the hardening into the cluster of the current context (the default)
  validate  check that cluster, and compare it with the platform's spec
  report    attack the hardening (nothing is changed) and write report.html

FLAGS are those of bulwark deploy, validate and report. PLATFORM names another spec than
platforms/intelgraph/platform.yaml, CONTEXT another kubeconfig context than the current one.

  deploy-security-hardening.sh deploy --stage audit
  CONTEXT=staging deploy-security-hardening.sh validate -o json
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
platform=${PLATFORM:-$root/platforms/intelgraph/platform.yaml}

# bulwark: the one on the PATH, else the one that make built, else built now.
bulwark() {
	if command -v bulwark >/dev/null 2>&1; then
		command bulwark "$@"
	elif [ -x "$root/build/bulwark" ]; then
		"$root/build/bulwark" "$@"
	else
		(cd "$root" && go build -o build/bulwark ./cmd/bulwark) && "$root/build/bulwark" "$@"
	fi
}

context() {
	if [ -n "${CONTEXT:-}" ]; then
		printf '%s\n' "$CONTEXT"
	else
		kubectl config current-context
	fi
}

command=${1:-deploy}
[ $# -eq 0 ] || shift
case $command in
deploy)
	bulwark deploy -f "$platform" ${CONTEXT:+--context "$CONTEXT"} "$@"
	;;
validate)
	bulwark validate -f "$platform" --context "$(context)" "$@"
	;;
report)
	proof=$(mktemp)
	trap 'rm -f "$proof"' EXIT
	# A missed attack is what the report is for, so only misuse (2) ends here.
	code=0
	bulwark prove -f "$platform" ${CONTEXT:+--context "$CONTEXT"} --ablate --save "$proof" || code=$?
	[ "$code" -ne 2 ] || exit 2
	bulwark report -f "$platform" --context "$(context)" --prove "$proof" "$@"
	;;
-h | --help | help)
	usage
	;;
*)
	printf 'unknown command: %s\n\n' "$command" >&2
	usage >&2
	exit 2
	;;
esac
