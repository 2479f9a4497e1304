#!/bin/sh
# Fuzzes every parser of foreign input, one after the other. FUZZTIME is the time for each (default 30s).
set -eu
cd "$(dirname "$0")/.."
grep -rl --include='*_test.go' '^func Fuzz' internal | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file" | while read -r name; do
		echo "$name in $(dirname "$file")"
		go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" -fuzzminimizetime 1x >build/fuzz.log 2>&1 || { cat build/fuzz.log; exit 1; }
	done
done
