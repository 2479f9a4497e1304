// Package mix makes up Kubernetes objects for the benchmark: the kinds of a usual cluster, written as people write them,
// good and bad ones mixed, 1.7 KB on average. The same seed gives the same bytes.
package mix

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// kinds and their weights, of 100.
var kinds = []struct {
	weight int
	write  func(*generator)
}{
	{27, (*generator).deployment},
	{9, (*generator).statefulSet},
	{8, (*generator).cronJob},
	{8, (*generator).pod},
	{13, (*generator).service},
	{11, (*generator).configMap},
	{6, (*generator).role},
	{4, (*generator).roleBinding},
	{6, (*generator).networkPolicy},
	{4, (*generator).ingress},
	{3, (*generator).serviceAccount},
	{1, (*generator).namespace},
}

// Objects gives n objects as documents of one YAML stream each.
func Objects(n int, seed uint64) []string {
	out := make([]string, n)
	for i := range out {
		g := &generator{rnd: rand.New(rand.NewPCG(seed, uint64(i))), i: i}
		pick := g.rnd.IntN(100)
		for _, k := range kinds {
			if pick -= k.weight; pick < 0 {
				k.write(g)
				break
			}
		}
		out[i] = g.b.String()
	}
	return out
}

type generator struct {
	rnd *rand.Rand
	i   int
	b   strings.Builder
}

func (g *generator) one(s ...string) string { return s[g.rnd.IntN(len(s))] }
func (g *generator) yes(percent int) bool   { return g.rnd.IntN(100) < percent }

// line writes at a depth of two spaces each.
func (g *generator) line(depth int, format string, args ...any) {
	for range depth {
		g.b.WriteString("  ")
	}
	fmt.Fprintf(&g.b, format, args...)
	g.b.WriteByte('\n')
}

var apps = []string{"maestro", "gateway", "billing", "catalog", "search", "ledger", "mailer", "profile", "reports", "session"}

func (g *generator) app() string { return g.one(apps...) }
func (g *generator) ns() string {
	return fmt.Sprintf("team-%d", g.i%40)
}

func (g *generator) head(apiVersion, kind, name string, namespaced bool) {
	g.line(0, "apiVersion: %s", apiVersion)
	g.line(0, "kind: %s", kind)
	g.line(0, "metadata:")
	g.line(1, "name: %s", name)
	if namespaced && g.yes(92) {
		g.line(1, "namespace: %s", g.ns())
	}
	g.line(1, "labels:")
	g.labels(2, name)
	if g.yes(45) {
		g.line(1, "annotations:")
		g.line(2, `prometheus.io/scrape: "true"`)
		g.line(2, `prometheus.io/port: "%d"`, 8000+g.rnd.IntN(1000))
		g.line(2, "example.com/owner: %s", g.one("platform@example.com", "payments@example.com", "search@example.com"))
		if g.yes(40) {
			g.line(2, `example.com/runbook: "https://runbooks.example.com/%s#restart"`, name)
		}
	}
}

func (g *generator) labels(depth int, name string) {
	g.line(depth, "app.kubernetes.io/name: %s", name)
	g.line(depth, "app.kubernetes.io/part-of: %s", g.app())
	if g.yes(60) {
		g.line(depth, `app.kubernetes.io/version: "%d.%d.%d"`, g.rnd.IntN(5), g.rnd.IntN(30), g.rnd.IntN(10))
		g.line(depth, "app.kubernetes.io/managed-by: Helm")
	}
}

func (g *generator) name() string { return fmt.Sprintf("%s-%d", g.app(), g.i) }

func (g *generator) image() string {
	repo := g.one("ghcr.io/example", "registry.example.com/team", "docker.io/library", "quay.io/example")
	switch {
	case g.yes(20):
		return fmt.Sprintf("%s/%s@sha256:%064x", repo, g.app(), g.rnd.Uint64())
	case g.yes(15):
		return repo + "/" + g.app() + ":latest"
	case g.yes(8):
		return g.app()
	}
	return fmt.Sprintf("%s/%s:v%d.%d.%d", repo, g.app(), g.rnd.IntN(4), g.rnd.IntN(20), g.rnd.IntN(10))
}

func (g *generator) container(d int, name string) {
	g.line(d, "- name: %s", name)
	d++
	g.line(d, "image: %s", g.image())
	if g.yes(60) {
		g.line(d, "imagePullPolicy: %s", g.one("Always", "IfNotPresent"))
	}
	if g.yes(30) {
		g.line(d, "command: [\"/bin/%s\"]", name)
		g.line(d, "args:")
		g.line(d, "- --listen=:8080")
		g.line(d, "- --log-level=%s", g.one("info", "debug"))
	}
	port := 8000 + g.rnd.IntN(1000)
	g.line(d, "ports:")
	g.line(d, "- name: http")
	g.line(d+1, "containerPort: %d", port)
	if g.yes(30) {
		g.line(d, "- name: metrics")
		g.line(d+1, "containerPort: 9090")
		g.line(d+1, "protocol: TCP")
	}
	g.line(d, "env:")
	for k := range 2 + g.rnd.IntN(4) {
		g.line(d, "- name: %s_%d", strings.ToUpper(g.app()), k)
		switch g.rnd.IntN(4) {
		case 0:
			g.line(d+1, "valueFrom:")
			g.line(d+2, "secretKeyRef:")
			g.line(d+3, "name: %s-credentials", name)
			g.line(d+3, "key: password")
		case 1:
			g.line(d+1, `value: "%d"`, g.rnd.IntN(100000))
		default:
			g.line(d+1, "value: http://%s.%s.svc.cluster.local:8080/api", g.app(), g.ns())
		}
	}
	if g.yes(75) {
		g.line(d, "resources:")
		g.line(d+1, "requests:")
		g.line(d+2, "cpu: %dm", 50*(1+g.rnd.IntN(10)))
		g.line(d+2, "memory: %dMi", 64*(1+g.rnd.IntN(8)))
		if g.yes(70) {
			g.line(d+1, "limits:")
			g.line(d+2, `cpu: "%d"`, 1+g.rnd.IntN(3))
			g.line(d+2, "memory: %dMi", 256*(1+g.rnd.IntN(8)))
		}
	}
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		if g.yes(60) {
			g.line(d, "%s:", probe)
			g.line(d+1, "httpGet:")
			g.line(d+2, "path: /%s", g.one("healthz", "ready", "live"))
			g.line(d+2, "port: %s", g.one("http", fmt.Sprint(port)))
			g.line(d+1, "initialDelaySeconds: %d", g.rnd.IntN(30))
			g.line(d+1, "periodSeconds: 10")
		}
	}
	if g.yes(65) {
		g.line(d, "securityContext:")
		if g.yes(85) {
			g.line(d+1, "allowPrivilegeEscalation: false")
			g.line(d+1, "readOnlyRootFilesystem: %v", g.yes(80))
			g.line(d+1, "runAsNonRoot: true")
			g.line(d+1, "capabilities:")
			g.line(d+2, "drop:")
			g.line(d+2, "- ALL")
			if g.yes(15) {
				g.line(d+2, "add: [NET_BIND_SERVICE]")
			}
		} else {
			g.line(d+1, "privileged: %v", g.yes(50))
			g.line(d+1, "runAsUser: 0")
		}
	}
	g.line(d, "volumeMounts:")
	g.line(d, "- name: tmp")
	g.line(d+1, "mountPath: /tmp")
	if g.yes(50) {
		g.line(d, "- name: config")
		g.line(d+1, "mountPath: /etc/%s", name)
		g.line(d+1, "readOnly: true")
	}
}

func (g *generator) podSpec(d int, name, restart string) {
	if g.yes(60) {
		g.line(d, "serviceAccountName: %s", name)
	}
	if g.yes(40) {
		g.line(d, "automountServiceAccountToken: false")
	}
	if g.yes(5) {
		g.line(d, "%s: true", g.one("hostNetwork", "hostPID", "hostIPC"))
	}
	if g.yes(60) {
		g.line(d, "securityContext:")
		g.line(d+1, "runAsNonRoot: true")
		g.line(d+1, "runAsUser: %d", 1000+g.rnd.IntN(9000))
		g.line(d+1, "fsGroup: 2000")
		g.line(d+1, "seccompProfile:")
		g.line(d+2, "type: RuntimeDefault")
	}
	if restart != "" {
		g.line(d, "restartPolicy: %s", restart)
	}
	if g.yes(20) {
		g.line(d, "initContainers:")
		g.line(d, "- name: migrate")
		g.line(d+1, "image: %s", g.image())
		g.line(d+1, "command: [\"sh\", \"-c\", \"until nc -z db 5432; do sleep 1; done\"]")
	}
	g.line(d, "containers:")
	g.container(d, name)
	if g.yes(15) {
		g.container(d, "sidecar")
	}
	g.line(d, "volumes:")
	g.line(d, "- name: tmp")
	g.line(d+1, "emptyDir: {}")
	if g.yes(50) {
		g.line(d, "- name: config")
		g.line(d+1, "configMap:")
		g.line(d+2, "name: %s-config", name)
	}
	if g.yes(4) {
		g.line(d, "- name: host")
		g.line(d+1, "hostPath:")
		g.line(d+2, "path: %s", g.one("/", "/var/run/docker.sock", "/var/log"))
	}
}

func (g *generator) template(d int, name, restart string) {
	g.line(d, "template:")
	g.line(d+1, "metadata:")
	g.line(d+2, "labels:")
	g.labels(d+3, name)
	g.line(d+1, "spec:")
	g.podSpec(d+2, name, restart)
}

func (g *generator) deployment() {
	name := g.name()
	if g.yes(30) {
		g.line(0, "# %s is rolled out by the platform team; see the runbook before scaling it.", name)
	}
	g.head("apps/v1", "Deployment", name, true)
	g.line(0, "spec:")
	g.line(1, "replicas: %d", 1+g.rnd.IntN(5))
	g.line(1, "selector:")
	g.line(2, "matchLabels:")
	g.line(3, "app.kubernetes.io/name: %s", name)
	if g.yes(40) {
		g.line(1, "strategy:")
		g.line(2, "type: RollingUpdate")
		g.line(2, "rollingUpdate:")
		g.line(3, "maxSurge: 25%%")
		g.line(3, "maxUnavailable: 0")
	}
	g.template(1, name, "")
}

func (g *generator) statefulSet() {
	name := g.name()
	g.head("apps/v1", "StatefulSet", name, true)
	g.line(0, "spec:")
	g.line(1, "serviceName: %s", name)
	g.line(1, "replicas: %d", 1+g.rnd.IntN(3))
	g.line(1, "selector:")
	g.line(2, "matchLabels:")
	g.line(3, "app.kubernetes.io/name: %s", name)
	g.template(1, name, "")
	g.line(1, "volumeClaimTemplates:")
	g.line(1, "- metadata:")
	g.line(3, "name: data")
	g.line(2, "spec:")
	g.line(3, "accessModes: [\"ReadWriteOnce\"]")
	g.line(3, "resources:")
	g.line(4, "requests:")
	g.line(5, "storage: %dGi", 1+g.rnd.IntN(50))
}

func (g *generator) cronJob() {
	name := g.name()
	g.head("batch/v1", "CronJob", name, true)
	g.line(0, "spec:")
	g.line(1, `schedule: "%d %d * * *"`, g.rnd.IntN(60), g.rnd.IntN(24))
	g.line(1, "concurrencyPolicy: Forbid")
	g.line(1, "jobTemplate:")
	g.line(2, "spec:")
	g.line(3, "backoffLimit: 3")
	g.template(3, name, "OnFailure")
}

func (g *generator) pod() {
	name := g.name()
	g.head("v1", "Pod", name, true)
	g.line(0, "spec:")
	g.podSpec(1, name, "Always")
}

func (g *generator) service() {
	name := g.name()
	g.head("v1", "Service", name, true)
	g.line(0, "spec:")
	g.line(1, "type: %s", g.one("ClusterIP", "ClusterIP", "ClusterIP", "LoadBalancer", "NodePort"))
	g.line(1, "selector:")
	g.line(2, "app.kubernetes.io/name: %s", name)
	g.line(1, "ports:")
	for k := range 1 + g.rnd.IntN(3) {
		g.line(1, "- name: port-%d", k)
		g.line(2, "port: %d", 80+k)
		g.line(2, "targetPort: %s", g.one("http", "8080"))
		g.line(2, "protocol: TCP")
	}
}

func (g *generator) configMap() {
	name := g.name()
	g.head("v1", "ConfigMap", name+"-config", true)
	g.line(0, "data:")
	for k := range 2 + g.rnd.IntN(6) {
		g.line(1, "SETTING_%d: %q", k, g.one("true", "30s", "http://cache:6379", "a b c"))
	}
	if g.yes(8) {
		g.line(1, "DB_PASSWORD: hunter2-%d", g.i)
	}
	g.line(1, "application.yaml: |")
	for k := range 20 + g.rnd.IntN(50) {
		g.line(2, "feature-%d:", k)
		g.line(3, "enabled: %v # rolled out in week %d", g.yes(50), g.rnd.IntN(52))
	}
}

func (g *generator) role() {
	name := g.name()
	cluster := g.yes(30)
	kind := "Role"
	if cluster {
		kind = "ClusterRole"
	}
	g.head("rbac.authorization.k8s.io/v1", kind, name, !cluster)
	g.line(0, "rules:")
	for range 2 + g.rnd.IntN(5) {
		g.line(0, "- apiGroups: [%q]", g.one("", "apps", "batch", "networking.k8s.io"))
		if g.yes(6) {
			g.line(1, "resources: [\"*\"]")
			g.line(1, "verbs: [\"*\"]")
			continue
		}
		g.line(1, "resources:")
		g.line(1, "- %s", g.one("pods", "configmaps", "secrets", "deployments", "services", "pods/exec"))
		g.line(1, "- %s", g.one("endpoints", "events", "jobs", "ingresses"))
		if g.yes(25) {
			g.line(1, "resourceNames: [%q]", name)
		}
		g.line(1, "verbs:")
		for _, v := range []string{"get", "list", "watch"} {
			g.line(1, "- %s", v)
		}
		if g.yes(25) {
			g.line(1, "- %s", g.one("create", "update", "delete", "escalate"))
		}
	}
}

func (g *generator) roleBinding() {
	name := g.name()
	g.head("rbac.authorization.k8s.io/v1", "RoleBinding", name, true)
	g.line(0, "roleRef:")
	g.line(1, "apiGroup: rbac.authorization.k8s.io")
	g.line(1, "kind: %s", g.one("Role", "ClusterRole"))
	g.line(1, "name: %s", g.one(name, "view", "edit", "cluster-admin"))
	g.line(0, "subjects:")
	for range 1 + g.rnd.IntN(3) {
		g.line(0, "- kind: ServiceAccount")
		g.line(1, "name: %s", g.one(name, "default"))
		g.line(1, "namespace: %s", g.ns())
	}
}

func (g *generator) networkPolicy() {
	name := g.name()
	g.head("networking.k8s.io/v1", "NetworkPolicy", name, true)
	g.line(0, "spec:")
	g.line(1, "podSelector:")
	g.line(2, "matchLabels:")
	g.line(3, "app.kubernetes.io/name: %s", name)
	g.line(1, "policyTypes: [Ingress, Egress]")
	g.line(1, "ingress:")
	for range 1 + g.rnd.IntN(3) {
		g.line(1, "- from:")
		g.line(2, "- podSelector:")
		g.line(4, "matchLabels:")
		g.line(5, "app.kubernetes.io/name: %s", g.app())
		g.line(2, "ports:")
		g.line(2, "- protocol: TCP")
		g.line(3, "port: %d", 8000+g.rnd.IntN(1000))
	}
	g.line(1, "egress:")
	g.line(1, "- to:")
	g.line(2, "- namespaceSelector:")
	g.line(4, "matchLabels:")
	g.line(5, "kubernetes.io/metadata.name: kube-system")
	g.line(2, "ports:")
	g.line(2, "- {protocol: UDP, port: 53}")
	g.line(2, "- {protocol: TCP, port: 53}")
}

func (g *generator) ingress() {
	name := g.name()
	g.head("networking.k8s.io/v1", "Ingress", name, true)
	g.line(0, "spec:")
	g.line(1, "ingressClassName: nginx")
	host := name + ".example.com"
	if g.yes(70) {
		g.line(1, "tls:")
		g.line(1, "- hosts:")
		g.line(2, "- %s", host)
		g.line(2, "secretName: %s-tls", name)
	}
	g.line(1, "rules:")
	g.line(1, "- host: %s", host)
	g.line(2, "http:")
	g.line(3, "paths:")
	for k := range 1 + g.rnd.IntN(4) {
		g.line(3, "- path: /v%d", k)
		g.line(4, "pathType: Prefix")
		g.line(4, "backend:")
		g.line(5, "service:")
		g.line(6, "name: %s", name)
		g.line(6, "port:")
		g.line(7, "number: %d", 80+k)
	}
}

func (g *generator) serviceAccount() {
	name := g.name()
	g.head("v1", "ServiceAccount", name, true)
	if g.yes(50) {
		g.line(0, "automountServiceAccountToken: false")
	}
	if g.yes(30) {
		g.line(0, "imagePullSecrets:")
		g.line(0, "- name: registry")
	}
}

func (g *generator) namespace() {
	name := g.ns()
	g.line(0, "apiVersion: v1")
	g.line(0, "kind: Namespace")
	g.line(0, "metadata:")
	g.line(1, "name: %s", name)
	if g.yes(60) {
		g.line(1, "labels:")
		g.line(2, "pod-security.kubernetes.io/enforce: %s", g.one("restricted", "baseline", "privileged"))
	}
}
