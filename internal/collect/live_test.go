package collect

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/labtest"
)

const secretValue = "correct-horse-battery-staple"

func TestLive(t *testing.T) {
	lab := labtest.Start(t)
	ctx := context.Background()
	client, err := kubernetes.NewForConfig(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: secretValue}},
		Type:       corev1.SecretTypeBasicAuth, StringData: map[string]string{"username": "u", "password": secretValue},
	}
	if _, err := client.CoreV1().Secrets("shop").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// More than two pages of one kind.
	const many = 2*pageSize + 10
	for i := range many {
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c-%04d", i)}}
		if _, err := client.CoreV1().ConfigMaps("shop").Create(ctx, c, metav1.CreateOptions{FieldManager: "test"}); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("everything", func(t *testing.T) {
		s, err := Live(ctx, lab.Config, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !s.Live || len(s.Unlisted) != 0 || len(s.NotJudged) != 0 {
			t.Errorf("live %v, unlisted %v, not judged %v", s.Live, s.Unlisted, s.NotJudged)
		}
		maps := map[string]bool{}
		for _, o := range s.Kind("", "ConfigMap") {
			if o.Meta.Namespace == "shop" && strings.HasPrefix(o.Meta.Name, "c-") {
				maps[o.Meta.Name] = true
			}
			if _, ok := o.Typed.(*corev1.ConfigMap); !ok || o.APIVersion != "v1" {
				t.Fatalf("%T of %s", o.Typed, o.APIVersion)
			}
		}
		if len(maps) != many {
			t.Errorf("%d config maps, want %d", len(maps), many)
		}
		for _, o := range s.Objects {
			if o.Meta.ManagedFields != nil {
				t.Fatalf("%v has its managed fields", o.Ref())
			}
			if (o.Typed == nil) == (o.Content == nil) {
				t.Fatalf("%v: exactly one of Typed and Content must be set", o.Ref())
			}
		}
		for _, kind := range [][2]string{{"", "Namespace"}, {"", "ServiceAccount"}, {"rbac.authorization.k8s.io", "ClusterRole"}, {"rbac.authorization.k8s.io", "ClusterRoleBinding"}} {
			if len(s.Kind(kind[0], kind[1])) == 0 {
				t.Errorf("no %s", kind[1])
			}
		}
		secrets := s.Kind("", "Secret")
		if len(secrets) != 1 {
			t.Fatalf("%d secrets", len(secrets))
		}
		got := secrets[0].Typed.(*corev1.Secret)
		if got.Name != "db" || got.Type != corev1.SecretTypeBasicAuth || got.Data != nil || got.StringData != nil || strings.Contains(fmt.Sprint(got), secretValue) {
			t.Errorf("the secret as read: %+v", got)
		}
	})

	t.Run("no secret value is asked for", func(t *testing.T) {
		spy := &spy{}
		cfg := rest.CopyConfig(lab.Config)
		cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { spy.next = rt; return spy })
		if _, err := Live(ctx, cfg, Options{}); err != nil {
			t.Fatal(err)
		}
		if len(spy.secrets) == 0 {
			t.Fatal("secrets were not listed")
		}
		for _, accept := range spy.secrets {
			if !strings.Contains(accept, "as=Table") {
				t.Errorf("secrets were asked for as %q", accept)
			}
		}
	})

	t.Run("a user with few rights", func(t *testing.T) {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "pods-only"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"list"}}}}
		if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		bind := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "pods-only"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pods-only"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}}}
		if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, bind, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		cfg := rest.CopyConfig(lab.Config)
		cfg.Impersonate.UserName = "jane"
		cfg.Impersonate.Groups = []string{"system:authenticated"}
		time.Sleep(100 * time.Millisecond) // a new binding takes some milliseconds
		s, err := Live(ctx, cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Kind("", "Namespace")) == 0 || len(s.Kind("", "ConfigMap")) != 0 {
			t.Errorf("%d namespaces, %d config maps", len(s.Kind("", "Namespace")), len(s.Kind("", "ConfigMap")))
		}
		for _, want := range []string{"/secrets", "/configmaps", "apps/deployments", "networking.k8s.io/networkpolicies"} {
			found := false
			for _, u := range s.Unlisted {
				found = found || u == want
			}
			if !found {
				t.Errorf("%s is not among the unlisted %v", want, s.Unlisted)
			}
		}
		if len(s.NotJudged) != len(s.Unlisted) || !strings.Contains(s.NotJudged[0].Reason, "may not list") {
			t.Errorf("not judged: %v", s.NotJudged)
		}
		cfg.Impersonate.UserName = "nobody"
		if _, err := Live(ctx, cfg, Options{}); err == nil || !strings.Contains(err.Error(), "may list none of the") {
			t.Errorf("a user without rights: %v", err)
		}
	})

	t.Run("custom resources of defences", func(t *testing.T) {
		d, err := dynamic.NewForConfig(lab.Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range [][2]string{{"security.istio.io", "PeerAuthentication"}, {"example.com", "Widget"}} {
			if err := installCRD(ctx, d, x[0], x[1]); err != nil {
				t.Fatal(err)
			}
		}
		gvr := schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "peerauthentications"}
		obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": map[string]any{"name": "strict"}, "spec": map[string]any{"mtls": map[string]any{"mode": "STRICT"}}}}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if _, err = d.Resource(gvr).Namespace("shop").Create(ctx, obj, metav1.CreateOptions{}); err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		s, err := Live(ctx, lab.Config, Options{})
		if err != nil {
			t.Fatal(err)
		}
		peers := s.Kind("security.istio.io", "PeerAuthentication")
		if len(peers) != 1 || peers[0].Content == nil || peers[0].Meta.Name != "strict" {
			t.Errorf("peer authentications: %v", peers)
		}
		if len(s.Kind("example.com", "Widget")) != 0 {
			t.Error("widgets are none of our business")
		}
		if len(s.Kind("apiextensions.k8s.io", "CustomResourceDefinition")) < 2 {
			t.Error("the definitions are not there")
		}
	})

	t.Run("by kubeconfig", func(t *testing.T) {
		cfg, err := Connect(lab.Kubeconfig, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Live(ctx, cfg, Options{}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(lab.AuditLog)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(`"userAgent":"bulwark"`)) {
			t.Error("the audit log does not know us")
		}
	})
}

// spy notes how secrets are asked for.
type spy struct {
	next    http.RoundTripper
	secrets []string
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/secrets") { // only one goroutine lists them
		s.secrets = append(s.secrets, r.Header.Get("Accept"))
	}
	return s.next.RoundTrip(r)
}

func installCRD(ctx context.Context, d dynamic.Interface, group, kind string) error {
	plural := strings.ToLower(kind) + "s"
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + "." + group},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced", "names": map[string]any{"kind": kind, "plural": plural, "singular": strings.ToLower(kind), "listKind": kind + "List"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
		},
	}}
	_, err := d.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).Create(ctx, crd, metav1.CreateOptions{})
	return err
}

func TestLiveTrouble(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer locked.Close()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") }))
	defer web.Close()
	quiet := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer quiet.Close()
	tests := map[string]struct {
		cfg  rest.Config
		want []string
	}{
		"refused":       {rest.Config{Host: closed}, []string{closed, "check the address"}},
		"certificate":   {rest.Config{Host: stranger.URL}, []string{stranger.URL, "certificate"}},
		"not logged in": {rest.Config{Host: locked.URL}, []string{locked.URL, "log in again"}},
		"not a cluster": {rest.Config{Host: web.URL}, []string{web.URL}},
		"no answer":     {rest.Config{Host: quiet.URL, Timeout: 200 * time.Millisecond}, []string{quiet.URL, "did not answer in time"}},
		"no such host":  {rest.Config{Host: "https://bulwark.invalid"}, []string{"bulwark.invalid", "does not resolve"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := Live(context.Background(), &tc.cfg, Options{})
			if err == nil || s != nil {
				t.Fatalf("got %v", s)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v does not say %q", err, w)
				}
			}
		})
	}
}

func TestKubeconfigWithoutCluster(t *testing.T) {
	p := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(p, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Connect(p, "staging")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Timeout = time.Second
	if _, err := Live(context.Background(), cfg, Options{}); err == nil || !strings.Contains(err.Error(), "a.example.com:6443") || strings.Contains(err.Error(), "not-a-secret") {
		t.Errorf("got %v", err)
	}
}
