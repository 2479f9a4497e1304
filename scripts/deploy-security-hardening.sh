#!/bin/sh
# The guide's command. A thin wrapper: everything it does is `bulwark deploy`, `bulwark validate` or `bulwark report`.
set -eu

usage() {
	cat <<'USAGE'
Usage: scripts/deploy-security-hardening.sh [deploy|validate|report] [flags]

  deploy     put the defences into the cluster and wait until they are seen to act (the default)
  validate   check the cluster, and compare it with what the platform compiles to
  report     write what is known of the cluster to report.html; attacks nothing, see --prove below

The cluster is that of the current kubeconfig context, or of $CONTEXT, or of --context. Without any, validate and report
judge what the platform compiles to, and say so. The Platform is the one that -f or $PLATFORM names, else ./platform.yaml,
else the only platforms/*/platform.yaml here, else the repository's.

All further flags go to bulwark; see `bulwark deploy --help` and its like. For example:

  scripts/deploy-security-hardening.sh --stage audit            # record what would be refused; nothing breaks
  scripts/deploy-security-hardening.sh deploy --diff            # what enforcing would change; touches nothing
  CONTEXT=staging scripts/deploy-security-hardening.sh validate -o json
  bulwark prove --context staging -o json > prove.json          # try the attacks, then show what was proven:
  CONTEXT=staging scripts/deploy-security-hardening.sh report --prove prove.json

bulwark is the one on the PATH, else build/bulwark, which is built when it is not there and go is.
Exit codes are those of bulwark: 0 good, 1 findings or differences, 2 bad input, 3 something could not be judged.
USAGE
}

say() { echo "deploy-security-hardening.sh: $*" >&2; }

fail() {
	say "$*"
	exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)

# platform names the spec. Which of several is meant is never guessed.
platform() {
	if [ -n "${PLATFORM:-}" ]; then
		echo "$PLATFORM"
	elif [ -f platform.yaml ]; then
		echo platform.yaml
	else
		for folder in platforms "$root/platforms"; do
			found=
			for file in "$folder"/*/platform.yaml; do
				[ -f "$file" ] || continue
				[ -z "$found" ] || fail "several $folder/*/platform.yaml; name the one that is meant with -f"
				found=$file
			done
			[ -z "$found" ] || break
		done
		[ -n "$found" ] || fail "no platform.yaml here and none in platforms/*/; name the spec with -f"
		echo "$found"
	fi
}

# context names the cluster: as kubectl does it, the first file that has a current context counts.
context() {
	if [ -n "${CONTEXT:-}" ]; then
		echo "$CONTEXT"
		return
	fi
	echo "${KUBECONFIG:-${HOME:-}/.kube/config}" | tr ':' '\n' | while IFS= read -r file; do
		[ -f "$file" ] || continue
		name=$(sed -n 's/^current-context:[[:space:]]*//p' "$file" | tr -d "\"'" | head -n 1)
		if [ -n "$name" ]; then
			echo "$name"
			break
		fi
	done
}

command=deploy
case "${1:-}" in
-h | --help | help)
	usage
	exit 0
	;;
deploy | validate | report)
	command=$1
	shift
	;;
'' | -*) ;;
*) fail "no command '$1'; one of: deploy, validate, report. See --help" ;;
esac

spec=unnamed cluster=unnamed
for arg; do
	case "$arg" in
	-f* | --file | --file=*) spec=named ;;
	--context | --context=* | --kubeconfig | --kubeconfig=*) cluster=named ;;
	-h | --help | --explain | --explain=* | --list-checks) spec=named cluster=named ;;
	esac
done
# Paths come first: then they are judged, and no cluster.
case "${1:-}" in
'' | -?*) ;;
*) [ "$command" != validate ] || cluster=named ;;
esac
if [ "$cluster" = unnamed ]; then
	name=$(context)
	if [ -n "${CONTEXT:-}" ] || { [ "$command" != deploy ] && [ -n "$name" ]; }; then
		set -- --context "$name" "$@"
	elif [ "$command" != deploy ]; then
		say "no kubeconfig names a cluster; judging what the platform compiles to"
	fi
fi
if [ "$spec" = unnamed ]; then
	file=$(platform)
	set -- -f "$file" "$@"
fi

if bulwark=$(command -v bulwark); then
	:
elif [ -x "$root/build/bulwark" ]; then
	bulwark=$root/build/bulwark
elif command -v go >/dev/null; then
	# Not `go run`: it turns every exit code but 0 into 1.
	say "building build/bulwark; the first time this takes some minutes …"
	bulwark=$root/build/bulwark
	CGO_ENABLED=0 go build -C "$root" -trimpath -o "$bulwark" ./cmd/bulwark || fail "bulwark does not build"
else
	fail "no bulwark on the PATH, no build/bulwark, and no go to build it with; install Go or put bulwark on the PATH"
fi
exec "$bulwark" "$command" "$@"
