package check

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Capabilities are root in slices. Some slices are the whole: with them a container leaves for the node.

var capabilitiesDangerous = &Check{
	ID: "capabilities-dangerous", Title: "Container has a capability that leads to the node", Severity: finding.Critical, Layer: artifact.Pods,
	Rationale: "SYS_ADMIN mounts, SYS_MODULE loads kernel code, SYS_PTRACE enters other processes, DAC_READ_SEARCH opens files of the node by handle, SYS_RAWIO and BPF reach memory, NET_ADMIN and NET_RAW rewrite and forge traffic. Each has published escapes or takeovers.",
	Fix:       "Remove it from capabilities.add; most programs that ask for one need a file permission or a port above 1023 instead.",
	Standards: []string{"PSS baseline", "CIS 5.2.8", "CIS 5.2.9", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		eachAdded(c, func(name, _, at string) {
			if s, ok := dangerousCapabilities[name]; ok {
				j.FailAs(s, at, "adds "+name)
			}
		})
	},
}

// dangerousCapabilities by how near the node they are.
var dangerousCapabilities = map[string]finding.Severity{
	"ALL": finding.Critical, "SYS_ADMIN": finding.Critical, "SYS_MODULE": finding.Critical, "SYS_PTRACE": finding.Critical,
	"SYS_RAWIO": finding.Critical, "DAC_READ_SEARCH": finding.Critical, "BPF": finding.Critical, "SYS_BOOT": finding.High,
	"PERFMON": finding.High, "SYS_TIME": finding.High, "NET_ADMIN": finding.High, "NET_RAW": finding.High, "MAC_ADMIN": finding.High,
	"MAC_OVERRIDE": finding.High, "SYSLOG": finding.High, "CHECKPOINT_RESTORE": finding.High,
}

var capabilitiesAdded = &Check{
	ID: "capabilities-added", Title: "Container adds capabilities", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Each added capability is a part of root that the program would not have had. The restricted standard admits NET_BIND_SERVICE alone, for ports below 1024.",
	Fix:       "Remove capabilities.add, or keep NET_BIND_SERVICE alone.",
	Standards: []string{"PSS restricted", "CIS 5.2.9", "NIST AC-6", "OWASP K8s K01"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		eachAdded(c, func(name, written, at string) {
			switch {
			case name != written:
				// The runtimes take it, and Pod Security compares the letters: it refuses even what it would admit.
				j.Fail(at, "adds "+name+", written "+written)
			case name == "NET_BIND_SERVICE":
			case slices.Contains(defaultCapabilities, name):
				j.FailAs(finding.Low, at, "adds "+name+", one that runtimes give anyway")
			default:
				j.Fail(at, "adds "+name)
			}
		})
	},
}

// defaultCapabilities are those that the baseline standard lets a container add, because runtimes give them unasked.
var defaultCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

var capabilitiesKept = &Check{
	ID: "capabilities-not-dropped", Title: "Container keeps the runtime's capabilities", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Unless it drops ALL, a container keeps about fourteen capabilities that almost no program uses, CHOWN, SETUID, MKNOD and (with some runtimes) NET_RAW among them.",
	Fix:       "Set securityContext.capabilities.drop: [ALL] on the container.",
	Standards: []string{"PSS restricted", "CIS 5.2.9", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if onWindows(w) {
			j.Skip()
			return
		}
		var drop []corev1.Capability
		if c.SecurityContext != nil && c.SecurityContext.Capabilities != nil {
			drop = c.SecurityContext.Capabilities.Drop
		}
		if !slices.Contains(drop, "ALL") {
			j.Fail(c.Path+".securityContext.capabilities.drop", "drops "+listOf(drop)+", not ALL")
		}
	},
}

func listOf(cs []corev1.Capability) string {
	if len(cs) == 0 {
		return "nothing"
	}
	s := make([]string, len(cs))
	for i, c := range cs {
		s[i] = string(c)
	}
	return strings.Join(s, ", ")
}

// eachAdded calls f with each added capability, in the kernel's spelling without CAP_: the runtimes take both.
// Written is the spelling in the manifest.
func eachAdded(c *cluster.Container, f func(name, written, at string)) {
	if c.SecurityContext == nil || c.SecurityContext.Capabilities == nil {
		return
	}
	for i, a := range c.SecurityContext.Capabilities.Add {
		f(strings.TrimPrefix(strings.ToUpper(string(a)), "CAP_"), string(a), c.Path+".securityContext.capabilities.add["+strconv.Itoa(i)+"]")
	}
}
