package spec_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

var (
	digestA = "sha256:" + strings.Repeat("a", 64)
	digestB = "sha256:" + strings.Repeat("b", 64)
)

func TestLockReadsWhatItWrites(t *testing.T) {
	l := &spec.Lock{Version: spec.LockVersion, Platform: "shop",
		Images: []spec.LockedImage{
			{Image: "r.example.com/b", Reference: "r.example.com/b:1", Digest: digestA, Platforms: []string{"linux/arm64", "linux/amd64"}, Stale: "r.example.com: \"no\" # answer\nat all"},
			{Image: "r.example.com/a", Digest: digestB, Given: true},
		},
		Unresolved: []spec.Unresolved{{Image: "r.example.com/c", Reason: "- [not] a: list"}},
	}
	text := l.YAML()
	got, err := spec.ParseLock("platform.lock", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if a, b := string(got.YAML()), string(text); a != b {
		t.Errorf("read and written again (-first +second):\n%s", cmp.Diff(b, a))
	}
	if d, ok := got.Digest("r.example.com/b"); !ok || d != digestA {
		t.Errorf("digest = %q, %v", d, ok)
	}
	if got.Images[1].Stale != l.Images[0].Stale {
		t.Errorf("stale = %q, want %q", got.Images[1].Stale, l.Images[0].Stale)
	}
	if got.Reason("r.example.com/c") != "- [not] a: list" {
		t.Errorf("reason = %q", got.Reason("r.example.com/c"))
	}
}

func TestNoLock(t *testing.T) {
	l, err := spec.LoadLock(filepath.Join(t.TempDir(), "platform.lock"))
	if l != nil || err != nil {
		t.Fatalf("LoadLock = %v, %v; want nothing and no error", l, err)
	}
	if _, ok := l.Digest("x"); ok {
		t.Error("no lock has a digest")
	}
	if l.Reason("x") == "" {
		t.Error("no lock gives no reason")
	}
	if l.For(&spec.Platform{}) != nil {
		t.Error("no lock became one")
	}
}

func TestLockHoldsOnlyWhatTheSpecAsks(t *testing.T) {
	parse := func(version string) *spec.Platform {
		t.Helper()
		text := strings.Replace(base(t), "image: registry.example.com/shop/batch\n", "image: registry.example.com/shop/batch\n"+version, 1)
		p, err := spec.Parse("platform.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const batch = "registry.example.com/shop/batch"
	lock := &spec.Lock{Version: spec.LockVersion, Images: []spec.LockedImage{{Image: batch, Reference: batch + ":1.0.0", Digest: digestA}, {Image: "gone", Digest: digestB}}}
	for version, want := range map[string]bool{"      version: 1.0.0\n": true, "      version: 1.0.1\n": false, "": false} {
		l := lock.For(parse(version))
		if _, ok := l.Digest(batch); ok != want {
			t.Errorf("%q: locked = %v, want %v (%s)", version, ok, want, l.Reason(batch))
		}
		if _, ok := l.Digest("gone"); ok {
			t.Errorf("%q: an image that the spec does not name is locked", version)
		}
		if got, want := len(l.Images)+len(l.Unresolved), len(parse(version).Images()); got != want {
			t.Errorf("%q: %d images accounted for, want %d", version, got, want)
		}
	}
}

func TestBadLocks(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"empty":           {"", "platform.lock:1: a lock file holds one document, this one holds 0"},
		"version":         {"version: v2\n", `version is "v2"; this version of Bulwark reads v1`},
		"unknown field":   {"version: v1\nimage: []\n", `platform.lock:2:1: unknown field "image"; did you mean "images"?`},
		"bad digest":      {"version: v1\nimages:\n  - {image: a, digest: sha256:12}\n", `platform.lock:3:5: image "a" has the digest "sha256:12"`},
		"no digest":       {"version: v1\nimages:\n  - {image: a}\n", `image "a" has the digest ""`},
		"twice":           {"version: v1\nimages:\n  - {image: a, digest: " + digestA + "}\n  - {image: a, digest: " + digestB + "}\n", `platform.lock:4:5: image "a" is listed twice`},
		"both":            {"version: v1\nimages:\n  - {image: a, digest: " + digestA + "}\nunresolved:\n  - {image: a, reason: b}\n", `platform.lock:5:5: image "a" is listed twice`},
		"without reason":  {"version: v1\nunresolved:\n  - {image: a}\n", `image "a" is unresolved for no reason`},
		"not YAML":        {"version: [\n", "platform.lock:"},
		"merge conflicts": {"<<<<<<< HEAD\nversion: v1\n=======\nversion: v1\n>>>>>>> main\n", "platform.lock:"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := spec.ParseLock("platform.lock", []byte(tt.text))
			if err == nil {
				t.Fatalf("accepted: %+v", l)
			}
			var errs source.Errors
			if !errors.As(err, &errs) {
				t.Errorf("error is %T, want source.Errors", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func FuzzParseLock(f *testing.F) {
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(reference), "platform.lock")); err == nil {
		f.Add(b)
	}
	f.Add([]byte("version: v1\nimages:\n  - {image: a, digest: " + digestA + ", platforms: [x]}\n"))
	f.Add([]byte("version: v1\nimages: [null, &a {image: b}, *a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := spec.ParseLock("platform.lock", data)
		if err != nil {
			places(t, err)
			return
		}
		again, err := spec.ParseLock("platform.lock", l.YAML())
		if err != nil {
			t.Fatalf("does not read what it wrote: %v\n%s", err, l.YAML())
		}
		if d := cmp.Diff(string(l.YAML()), string(again.YAML())); d != "" {
			t.Fatalf("not stable:\n%s", d)
		}
	})
}
