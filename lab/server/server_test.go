package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/intelgraph/bulwark/lab/server"
)

// startLimit is generous, since test machines are slow at times.
const startLimit = time.Minute

// stopLimit is what the package promises, with room for a slow machine.
const stopLimit = 5 * time.Second

// patience is how long a test waits for what happens within a second.
const patience = 5 * time.Second

func TestMain(m *testing.M) {
	// The server's log would bury the failures.
	f := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(f)
	_ = f.Set("logtostderr", "true")
	_ = f.Set("legacy_stderr_threshold_behavior", "false")
	_ = f.Set("stderrthreshold", "FATAL")
	os.Exit(m.Run())
}

// start runs a server that is stopped when the test ends.
func start(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if o.PolicyRefresh == 0 {
		o.PolicyRefresh = 50 * time.Millisecond
	}
	began := time.Now()
	s, err := server.Start(ctx, o)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

func client(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// as returns the admin's configuration in another's name.
func as(s *server.Server, user string, groups ...string) *rest.Config {
	config := s.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return config
}

// eventually calls ok until it returns nil, for at most patience.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newNamespace makes a namespace and waits for its ServiceAccount.
func newNamespace(t *testing.T, c *kubernetes.Clientset, name string, labels map[string]string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ServiceAccount default in "+name, func() error {
		_, err := c.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// auditEvent is the part of an audit.k8s.io/v1 Event that the tests read.
type auditEvent struct {
	RequestURI  string            `json:"requestURI"`
	Verb        string            `json:"verb"`
	Annotations map[string]string `json:"annotations"`
}

// readAudit returns the events in the audit log.
func readAudit(t *testing.T, path string) []auditEvent {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []auditEvent
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("audit log: %v in %s", err, lines.Text())
		}
		events = append(events, event)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// entries returns the names of what is in dir.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, each := range list {
		names = append(names, each.Name())
	}
	return names
}

func TestTwoServersAtOnce(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	var servers [2]*server.Server
	var starting sync.WaitGroup
	for i := range servers {
		starting.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), startLimit)
			defer cancel()
			var err error
			if servers[i], err = server.Start(ctx, server.Options{}); err != nil {
				t.Errorf("Start: %v", err)
			}
		})
	}
	starting.Wait()
	for _, s := range servers {
		if s != nil {
			t.Cleanup(func() { _ = s.Stop() })
		}
	}
	if t.Failed() {
		return
	}
	a, b := servers[0], servers[1]
	inA, inB := client(t, a.Config()), client(t, b.Config())

	newNamespace(t, inA, "only-in-a", nil)
	if _, err := inB.CoreV1().Namespaces().Get(t.Context(), "only-in-a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace of one server in the other: got %v, want not found", err)
	}

	stranger := a.Config()
	stranger.Host = b.URL()
	if _, err := client(t, stranger).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a client of one server trusts the other")
	}
	stranger.CAData, stranger.Insecure = nil, true
	if _, err := client(t, stranger).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the admin of one server at the other: got %v, want unauthorized", err)
	}

	if err := a.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := a.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	if _, err := os.Stat(a.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a stopped server: got %v, want none", err)
	}
	if _, err := inB.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("a server after the other stopped: %v", err)
	}
	if err := b.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if left := entries(t, temp); len(left) > 0 {
		t.Errorf("left in TMPDIR: %v", left)
	}
}

// TestServer asks one server everything that needs no server of its own.
func TestServer(t *testing.T) {
	s := start(t, server.Options{})
	admin := client(t, s.Config())

	t.Run("kubeconfig", func(t *testing.T) {
		config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client(t, config).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("list nodes: %v", err)
		}
	})
	t.Run("files are private", func(t *testing.T) { testPrivate(t, s) })
	t.Run("version", func(t *testing.T) { testVersion(t, admin) })
	t.Run("ready", func(t *testing.T) {
		// Start waits for the account, so there is no waiting here.
		if _, err := admin.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
			t.Errorf("ServiceAccount default: %v", err)
		}
		eventually(t, "kube-root-ca.crt", func() error {
			_, err := admin.CoreV1().ConfigMaps("default").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
			return err
		})
	})
	t.Run("identities", func(t *testing.T) { testIdentities(t, s) })
	t.Run("pod security", func(t *testing.T) { testPodSecurity(t, s) })
	t.Run("validating policy", func(t *testing.T) { testValidatingPolicy(t, s) })
	t.Run("mutating policy", func(t *testing.T) { testMutatingPolicy(t, s) })
	t.Run("policies on policies", func(t *testing.T) { testPolicyOnPolicy(t, s) })
	t.Run("type checker", func(t *testing.T) { testTypeChecker(t, s) })
	t.Run("audit entry precedes the response", func(t *testing.T) {
		for i := range 50 {
			name := fmt.Sprintf("missing-%d", i)
			_, err := admin.CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				t.Fatalf("got %v, want not found", err)
			}
			log, err := os.ReadFile(s.AuditLog())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), "/configmaps/"+name+`"`) {
				t.Fatalf("no audit entry for %s when the response is there", name)
			}
		}
	})
	t.Run("namespace deletion", func(t *testing.T) {
		newNamespace(t, admin, "short-lived", nil)
		if err := admin.CoreV1().Namespaces().Delete(t.Context(), "short-lived", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		// The controller itself waits 5 s before it looks again at what is left.
		deadline := time.Now().Add(15 * time.Second)
		for {
			_, err := admin.CoreV1().Namespaces().Get(t.Context(), "short-lived", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the namespace is still there: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

func testPrivate(t *testing.T, s *server.Server) {
	err := filepath.WalkDir(s.Dir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		// The directory keeps others out; keys and data do so themselves as well.
		private := path == s.Dir() || strings.HasSuffix(path, ".key") || path == s.Kubeconfig() || path == s.AuditLog()
		if private && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// etcd listens here only if it does not listen where others can reach it.
	for _, socket := range []string{"etcd.sock", "peer.sock"} {
		if info, err := os.Stat(filepath.Join(s.Dir(), socket)); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%s: got %v, %v, want a socket", socket, info, err)
		}
	}
}

// testVersion holds what /version says and go.mod together.
func testVersion(t *testing.T, admin *kubernetes.Clientset) {
	info, err := admin.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if info.GitVersion != server.KubernetesVersion || info.Major != "1" || info.Minor != "37" {
		t.Errorf("got %s (%s.%s), want %s", info.GitVersion, info.Major, info.Minor, server.KubernetesVersion)
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)k8s\.io/kubernetes (v\S+)`).FindSubmatch(module)
	if required == nil || string(required[1]) != server.KubernetesVersion {
		t.Errorf("go.mod requires %s, want %s", required, server.KubernetesVersion)
	}
}

func testIdentities(t *testing.T, s *server.Server) {
	whoami := func(config *rest.Config) authenticationv1.UserInfo {
		t.Helper()
		review, err := client(t, config).AuthenticationV1().SelfSubjectReviews().Create(t.Context(),
			&authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.UserInfo
	}

	if got := whoami(as(s, "alice", "developers")); got.Username != "alice" || !strings.Contains(strings.Join(got.Groups, " "), "developers") {
		t.Errorf("impersonated: got %v", got)
	}

	token, err := client(t, s.Config()).CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bearer := rest.AnonymousClientConfig(s.Config())
	bearer.BearerToken = token.Status.Token
	if got := whoami(bearer); got.Username != "system:serviceaccount:default:default" {
		t.Errorf("with a token of a ServiceAccount: got %v", got)
	}

	// Anonymous requests are allowed as on a cluster, and RBAC refuses them.
	_, err = client(t, rest.AnonymousClientConfig(s.Config())).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:anonymous") {
		t.Errorf("anonymous: got %v, want RBAC to refuse system:anonymous", err)
	}
	_, err = client(t, as(s, "alice")).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a user without rights: got %v, want forbidden", err)
	}
}

func TestStop(t *testing.T) {
	// The first start in a process makes goroutines that stay; measure the second.
	if err := start(t, server.Options{}).Stop(); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()

	s := start(t, server.Options{})
	running := runtime.NumGoroutine()
	watch, err := client(t, s.Config()).CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	began := time.Now()
	var stopping sync.WaitGroup
	for range 3 { // Stop may be called by several
		stopping.Go(func() {
			if err := s.Stop(); err != nil {
				t.Errorf("Stop: %v", err)
			}
		})
	}
	stopping.Wait()
	took := time.Since(began)
	t.Logf("stopped after %v", took.Round(time.Millisecond))
	if took > stopLimit {
		t.Errorf("Stop took %v with an open watch, want at most %v", took, stopLimit)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory after Stop: got %v, want none", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "https://")); err == nil {
		conn.Close()
		t.Error("the port is open after Stop")
	}

	var after int
	for range 100 {
		if after = runtime.NumGoroutine(); after <= before+(running-before)/10 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("goroutines: %d before, %d while running, %d after", before, running, after)
	if after > before+(running-before)/2 {
		t.Errorf("%d goroutines after Stop, %d before Start and %d while running", after, before, running)
	}
}

func TestStartFails(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(precious, []byte("apiVersion: v1\nkind: Config\ncurrent-context: production\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "policy.yaml"), []byte("kind: ConfigMap\napiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("changed my mind"))

	for _, test := range []struct {
		name string
		ctx  context.Context
		o    server.Options
		want string
	}{
		{"directory in use", t.Context(), server.Options{Dir: full}, "is not empty (it has thesis.tex)"},
		{"kubeconfig in use", t.Context(), server.Options{Kubeconfig: precious}, "is not the kubeconfig of a lab"},
		{"no such flag", t.Context(), server.Options{Flags: []string{"--no-such-flag"}}, "unknown flag: --no-such-flag"},
		{"bad flag", t.Context(), server.Options{Flags: []string{"--authorization-mode=Nonsense"}}, "Nonsense"},
		{"no audit policy", t.Context(), server.Options{AuditPolicy: "nowhere.yaml"}, "nowhere.yaml"},
		{"no static policies", t.Context(), server.Options{StaticPolicies: "nowhere"}, "nowhere"},
		{"static ConfigMap", t.Context(), server.Options{StaticPolicies: broken}, "policy.yaml"},
		{"long path", t.Context(), server.Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("x", 100))}, "choose a shorter directory"},
		{"cancelled", cancelled, server.Options{}, "changed my mind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			s, err := server.Start(test.ctx, test.o)
			if err == nil {
				_ = s.Stop()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to contain %q", err, test.want)
			}
			if left := entries(t, temp); len(left) > 0 {
				t.Errorf("left in TMPDIR: %v", left)
			}
		})
	}
	if data, err := os.ReadFile(precious); err != nil || !strings.Contains(string(data), "production") {
		t.Errorf("the kubeconfig of others: %v, %s", err, data)
	}
	if left := entries(t, full); len(left) != 1 {
		t.Errorf("the directory of others has %v", left)
	}
}
