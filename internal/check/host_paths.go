package check

import (
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A hostPath volume is a hole in the pod's file system; how bad it is depends on what lies behind it and on whether it
// can be written. Reading and writing are told apart by all mounts of all containers: one writable mount is enough.

var hostPathWritable = &Check{
	ID: "host-path-writable", Title: "Pod can write to the node's file system", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "A writable hostPath lets the container change files that the node or other pods read, and outlive its own deletion. Symbolic links that it plants are followed by whatever of the node reads there.",
	Fix:       "Use an emptyDir or a PersistentVolumeClaim; if the node's files are really needed, mount them readOnly.",
	Standards: []string{"PSS baseline", "CIS 5.2.11", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		hostPaths(w, func(v *corev1.Volume, at, where string, writable bool) {
			if writable {
				j.Fail(at, where+" of the node is mounted writable")
			}
		})
	},
}

var hostPathReadOnly = &Check{
	ID: "host-path-read-only", Title: "Pod reads the node's file system", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "A read-only hostPath still tells the container what lies on the node, and follows links there. A volume that no container mounts can be mounted by an ephemeral container later.",
	Fix:       "Use a ConfigMap, a projected volume or a CSI volume; remove volumes that nothing mounts.",
	Standards: []string{"PSS baseline", "CIS 5.2.11", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		hostPaths(w, func(v *corev1.Volume, at, where string, writable bool) {
			if !writable {
				j.Fail(at, where+" of the node is in the pod, read only")
			}
		})
	},
}

var hostPathSensitive = &Check{
	ID: "host-path-sensitive", Title: "Pod mounts a part of the node that gives the node away", Severity: finding.Critical, Layer: artifact.Pods,
	Rationale: "Some paths are as good as the node itself: the root, /proc and /sys (kernel settings such as core_pattern run programs as root), the kubelet's folder (every pod's tokens), /root and /home (SSH keys), /etc (the node's credentials), /var/log (the kubelet follows links there and shows any file).",
	Fix:       "Remove the volume. Agents that need one of these belong in a namespace of their own, read only, with an exception that names an owner.",
	Standards: []string{"PSS baseline", "CIS 5.2.11", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		hostPaths(w, func(v *corev1.Volume, at, where string, writable bool) {
			if isRuntimeSocket(where) {
				return // runtime-socket-mounted says it
			}
			why, ok := sensitivePath(where)
			switch {
			case !ok:
			case writable:
				j.Fail(at, where+" of the node: "+why)
			default:
				j.FailAs(finding.High, at, where+" of the node, read only: "+why)
			}
		})
	},
}

var runtimeSocket = &Check{
	ID: "runtime-socket-mounted", Title: "Pod holds the container runtime's socket", Severity: finding.Critical, Layer: artifact.Pods,
	Rationale: "Who can speak to the runtime's socket starts a privileged container with the node's root mounted. A read-only mount does not help: a socket is written to by connecting.",
	Fix:       "Remove the volume. Build images with a rootless builder; read container metadata from the API server.",
	Standards: []string{"PSS baseline", "CIS 5.2.11", "NIST AC-6", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		hostPaths(w, func(v *corev1.Volume, at, where string, _ bool) {
			if isRuntimeSocket(where) {
				j.Fail(at, where+" is a container runtime's socket")
			}
		})
	},
}

// hostPaths calls f for each hostPath volume, with the field's path, the cleaned path on the node, and whether any
// container may write to it.
func hostPaths(w *cluster.Workload, f func(v *corev1.Volume, at, where string, writable bool)) {
	for i := range w.Spec.Volumes {
		v := &w.Spec.Volumes[i]
		if v.HostPath == nil {
			continue
		}
		at := w.SpecPath + ".volumes[" + strconv.Itoa(i) + "].hostPath.path"
		f(v, at, path.Clean("/"+v.HostPath.Path), mountedWritable(w.Spec, v.Name))
	}
}

func mountedWritable(p *corev1.PodSpec, volume string) bool {
	writes := func(mounts []corev1.VolumeMount) bool {
		for i := range mounts {
			if mounts[i].Name == volume && !mounts[i].ReadOnly {
				return true
			}
		}
		return false
	}
	for i := range p.InitContainers {
		if writes(p.InitContainers[i].VolumeMounts) {
			return true
		}
	}
	for i := range p.Containers {
		if writes(p.Containers[i].VolumeMounts) {
			return true
		}
	}
	for i := range p.EphemeralContainers {
		if writes(p.EphemeralContainers[i].VolumeMounts) {
			return true
		}
	}
	return false
}

// sensitivePaths are folders of the node by what they give away; what lies below counts too.
var sensitivePaths = [...]struct{ dir, why string }{
	{"/etc", "the node's configuration and credentials"},
	{"/proc", "the kernel's settings and every process"},
	{"/sys", "the kernel's and the devices' settings"},
	{"/dev", "the node's devices, its disks among them"},
	{"/boot", "the kernel that the node starts next"},
	{"/root", "the administrator's files and keys"},
	{"/home", "the files and keys of people on the node"},
	{"/var/lib/kubelet", "the kubelet's credentials and the secrets of every pod"},
	{"/var/lib/etcd", "the whole state of the cluster"},
	{"/var/lib/docker", "the file systems of all containers"},
	{"/var/lib/containerd", "the file systems of all containers"},
	{"/var/lib/containers", "the file systems of all containers"},
	{"/var/lib/rancher", "the cluster's credentials and state"},
	{"/var/lib/cloud", "the node's start-up data, often with credentials"},
	{"/var/log", "the node's logs; the kubelet follows links there"},
	{"/run", "the sockets of the node's services"},
	{"/var/run", "the sockets of the node's services"},
	{"/usr", "the programs that the node runs"},
	{"/bin", "the programs that the node runs"},
	{"/sbin", "the programs that the node runs"},
	{"/lib", "the libraries and kernel modules of the node"},
	{"/lib64", "the libraries of the node"},
	{"/opt/cni", "the network plugins that the kubelet runs as root"},
	{"/var/spool/cron", "the node's scheduled jobs"},
}

func sensitivePath(p string) (why string, ok bool) {
	switch p {
	case "/":
		return "the whole node", true
	case "/var", "/var/lib", "/opt":
		return "holds the node's state and credentials", true
	}
	for _, s := range sensitivePaths {
		if p == s.dir || strings.HasPrefix(p, s.dir) && p[len(s.dir)] == '/' {
			return s.why, true
		}
	}
	return "", false
}

func isRuntimeSocket(p string) bool {
	switch path.Base(p) {
	case "docker.sock", "containerd.sock", "crio.sock", "cri-dockerd.sock", "podman.sock", "dockershim.sock", "buildkitd.sock":
		return true
	}
	switch p {
	case "/run/containerd", "/var/run/containerd", "/run/crio", "/var/run/crio", "/run/docker", "/var/run/docker":
		return true
	}
	return false
}
