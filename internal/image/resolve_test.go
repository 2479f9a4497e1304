package image

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// serve starts a real registry on loopback.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestResolve(t *testing.T) {
	host := serve(t, nil)
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	one := must(name.ParseReference(host + "/shop/web:1.0.0"))(t)
	if err := remote.Write(one, img); err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	many := must(name.ParseReference(host + "/shop/web:2.0.0"))(t)
	if err := remote.WriteIndex(many, idx); err != nil {
		t.Fatal(err)
	}
	imgDigest, idxDigest := must(img.Digest())(t).String(), must(idx.Digest())(t).String()

	r := &Resolver{}
	answers := r.ResolveAll(context.Background(), []string{host + "/shop/web:1.0.0", host + "/shop/web:2.0.0", host + "/shop/web:3.0.0", "web"}, nil)
	if answers[0].Err != nil || answers[0].Digest != imgDigest {
		t.Errorf("image: %+v", answers[0])
	}
	if diff := cmp.Diff(Resolved{Digest: idxDigest, Platforms: []string{"linux/amd64", "linux/arm64/v8"}}, answers[1].Resolved); diff != "" || answers[1].Err != nil {
		t.Errorf("index: %v %s", answers[1].Err, diff)
	}
	if err := answers[2].Err; err == nil || !strings.Contains(err.Error(), "has no 3.0.0") {
		t.Errorf("missing tag: %v", err)
	}
	if err := answers[3].Err; err == nil || !strings.Contains(err.Error(), "no complete reference") {
		t.Errorf("incomplete reference: %v", err)
	}
}

func TestRefusedAndSlowRegistries(t *testing.T) {
	refusing := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"errors":[{"code":"DENIED","message":"token s3cret is not good"}]}`, http.StatusForbidden)
		})
	})
	slow := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		})
	})
	r := &Resolver{Timeout: 300 * time.Millisecond}
	_, err := r.Resolve(context.Background(), refusing+"/shop/web:1")
	if err == nil || !strings.Contains(err.Error(), "docker login") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("refused: %v", err)
	}
	_, err = r.Resolve(context.Background(), slow+"/shop/web:1")
	if err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("slow: %v", err)
	}
	_, err = r.Resolve(context.Background(), "127.0.0.1:1/shop/web:1")
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("nobody there: %v", err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
