package check

import (
	"slices"
	"strconv"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// safeSysctls are the ones that Kubernetes calls safe in 1.37 (pod-security-admission, check_sysctls.go): namespaced,
// and unable to starve the node.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle",
	"net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}

var sysctls = &Check{
	ID: "sysctl-unsafe", Title: "Pod sets an unsafe kernel parameter", Severity: finding.Medium, Layer: artifact.Syscalls,
	Rationale: "Sysctls outside of the safe set are not all namespaced or bounded: a pod can change the behaviour or the memory use of the whole node through them.",
	Fix:       "Remove the sysctl, or set it on nodes of its own.",
	Standards: []string{"PSS baseline", "NIST CM-6", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if w.Spec.SecurityContext == nil {
			return
		}
		for i, s := range w.Spec.SecurityContext.Sysctls {
			if !slices.Contains(safeSysctls, s.Name) {
				j.Fail(w.SpecPath+".securityContext.sysctls["+strconv.Itoa(i)+"].name", "sets "+s.Name)
			}
		}
	},
}
