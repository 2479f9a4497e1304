package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/intelgraph/bulwark/internal/spec"
)

// TestLockAgainstARegistry follows one platform through what happens to a lock over time, on a real registry that asks
// for a password.
func TestLockAgainstARegistry(t *testing.T) {
	var down atomic.Bool
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		if user, password, _ := r.BasicAuth(); strings.Contains(r.URL.Path, "/v2/private") && (user != "robot" || password != "s3cret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who is there"}]}`, http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's credentials but the test's

	dir := t.TempDir()
	file, lock := filepath.Join(dir, "platform.yaml"), filepath.Join(dir, "platform.lock")
	write := func(version string) {
		t.Helper()
		text := fmt.Sprintf("apiVersion: bulwark.dev/v1alpha1\nkind: Platform\nmetadata: {name: shop}\nspec:\n  namespaces: {shop: {}}\n  components:\n"+
			"    web: {image: %[1]s/shop/web, %[2]s base: %[1]s/shop/base:1.0.0}\n", host, version)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	push := func(ref string) string {
		t.Helper()
		img, err := random.Image(64, 1)
		if err != nil {
			t.Fatal(err)
		}
		to, err := name.ParseReference(host + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(to, img); err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := Main(append([]string{"lock", "-f", file}, args...), &App{Out: &out, Err: &errs}); got != want {
			t.Fatalf("lock %v: exit %d, want %d\n%s%s", args, got, want, &out, &errs)
		}
		return out.String() + errs.String()
	}
	holds := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in:\n%s", w, text)
			}
		}
	}
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(lock)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	write("")
	push("shop/other:1.0.0")
	if out := run(ExitFindings, "--check"); !strings.Contains(out, "differs") {
		t.Errorf("a missing lock is no lock: %s", out)
	}
	if _, err := os.Stat(lock); err == nil {
		t.Fatal("--check wrote the lock")
	}
	holds(run(ExitUnknown), "2 unresolved", "has no 1.0.0", "gives no version", "written")
	holds(read(), "images: []", "unresolved:")

	base, web := push("shop/base:1.0.0"), push("shop/web:1.4.2")
	write("version: 1.4.2,")
	holds(run(ExitFindings, "--check"), "differs", "the lock had no digest of it")
	holds(run(ExitOK), "2 locked", base, web, "written")
	first := read()
	holds(first, base, web, "reference: "+host+"/shop/web:1.4.2", "unresolved: []")
	holds(run(ExitOK), "unchanged")
	run(ExitOK, "--check")
	if read() != first {
		t.Error("a second run wrote other bytes")
	}

	// An outage is not a tag that moved: the digests are kept, and said to be stale.
	down.Store(true)
	holds(run(ExitUnknown, "--check"), "stale", "answered 503", "unchanged")
	if read() != first {
		t.Error("--check wrote")
	}
	holds(run(ExitUnknown), "2 stale", "written")
	holds(read(), base, web, "stale: ")
	p, err := spec.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	l, err := spec.LoadLock(lock)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := l.For(p).Digest(host + "/shop/web"); !ok || d != web {
		t.Errorf("stale digest = %s, %v", d, ok)
	}
	down.Store(false)
	holds(run(ExitOK), "2 locked", "0 stale")
	if read() != first {
		t.Error("the lock is not what it was before the outage")
	}

	// A tag that moved.
	moved := push("shop/web:1.4.2")
	holds(run(ExitFindings, "--check"), "the tag has moved", web, moved)
	holds(run(ExitOK), "the tag has moved", "written")
	holds(read(), moved)

	// Another version: the old digest is not used for it, by no command.
	write("version: 1.5.0,")
	if p, err = spec.Load(file); err != nil {
		t.Fatal(err)
	}
	if l, err = spec.LoadLock(lock); err != nil {
		t.Fatal(err)
	}
	if d, ok := l.For(p).Digest(host + "/shop/web"); ok {
		t.Errorf("version 1.5.0 runs with the digest of 1.4.2: %s", d)
	}
	holds(run(ExitFindings, "--check"), "the spec asked for")

	// A digest that a person gives is kept until a registry answers.
	hand := "sha256:" + strings.Repeat("ab", 32)
	holds(run(ExitOK, "--image", host+"/shop/web="+hand), "given", hand, "no registry has confirmed it")
	holds(run(ExitOK), "1 given", "unchanged")
	run(ExitOK, "--check")
	real := push("shop/web:1.5.0")
	holds(run(ExitFindings, "--check"), hand, real)
	holds(run(ExitOK), "2 locked, 0 given", real)

	// Credentials are those of docker login; without them the reason says what to do, and no secret.
	if err := os.WriteFile(file, []byte("apiVersion: bulwark.dev/v1alpha1\nkind: Platform\nmetadata: {name: shop}\nspec:\n  namespaces: {shop: {}}\n  components:\n"+
		"    web: {image: "+host+"/private/web, version: 1.0.0}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	holds(run(ExitUnknown), "docker login "+host)
	login := fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":"wrong"}}}`, host)
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(ExitUnknown); strings.Contains(out, "robot") || strings.Contains(out, "wrong") || strings.Contains(read(), "robot") {
		t.Errorf("credentials in the output:\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(strings.Replace(login, "wrong", "s3cret", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(run(ExitUnknown), "has no 1.0.0") // logged in, and told the truth

	var doc struct {
		Version, State string
		Images         []map[string]any
		Unresolved     []map[string]any
		Changes        []any
	}
	if err := json.Unmarshal([]byte(run(ExitUnknown, "-o", "json")), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Version != "v1" || doc.State != "unchanged" || doc.Images == nil || len(doc.Unresolved) != 1 || doc.Changes == nil {
		t.Errorf("json: %+v", doc)
	}

	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	for _, bad := range [][]string{{"--image", "x"}, {"--image", host + "/shop/web=" + hand}, {"--image", host + "/private/web=sha256:1"}, {"-o", "xml"}, {"extra"}} {
		run(ExitMisuse, bad...)
	}
}
