// Package tiers holds the house's floors: a package imports only lower ones. It has no code, only the test.
package tiers

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/intelgraph/bulwark/"

// tier gives each package its floor. A package that is not here fails the test: whoever adds one decides where it lives.
var tier = map[string]int{
	"internal/source": 0, "internal/spec": 0, "internal/finding": 0, "internal/artifact": 0, "internal/cluster": 0,
	"internal/compile": 1, "internal/check": 1, "internal/attack": 1,
	"internal/collect": 2, "internal/prove": 2, "internal/deploy": 2, "internal/image": 2,
	"internal/report": 3,
	"internal/cli":    5,
	"cmd":             6, "bench": 6,
	// Only tests import it.
	"internal/labtest": 6, "internal/tiers": 6, "test": 6,
}

// peers may be imported by each other on the same floor, each for the reason beside it.
var peers = map[[2]string]string{
	{"internal/artifact", "internal/source"}: "a cause is a place in a file",
	{"internal/cluster", "internal/source"}:  "an object remembers its place",
	{"internal/cluster", "internal/finding"}: "an object can be named in a finding",
	{"internal/spec", "internal/source"}:     "the spec is read from a file",
	{"internal/spec", "internal/artifact"}:   "a part of the spec is a cause",
	{"internal/spec", "internal/finding"}:    "an exception is part of the spec",
	{"internal/attack", "internal/compile"}:  "attacks are aimed at the policies that are compiled",
}

// pure packages take no clock, no network, no environment and no random source: same input, same bytes.
var pure = []string{"internal/source", "internal/finding", "internal/artifact", "internal/cluster", "internal/compile", "internal/check", "internal/attack"}

var impure = []string{"os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand"}

func room(path string) string {
	path = strings.TrimPrefix(path, module)
	parts := strings.Split(path, "/")
	if parts[0] == "internal" && len(parts) > 1 {
		return "internal/" + parts[1]
	}
	return parts[0]
}

func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	n := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		from := room(p.ImportPath)
		floor, known := tier[from]
		if !known {
			t.Errorf("%s has no floor: add it to the table", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(pure, from) && slices.Contains(impure, imp) {
				t.Errorf("%s is pure and may not import %s", p.ImportPath, imp)
			}
			if !strings.HasPrefix(imp, module) {
				continue
			}
			to := room(imp)
			if to == from || tier[to] < floor || peers[[2]string{from, to}] != "" {
				continue
			}
			t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, floor, imp, tier[to])
		}
	}
	if n < 10 {
		t.Errorf("only %d packages were looked at", n)
	}
}
