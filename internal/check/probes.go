package check

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Availability is the third part of security. Jobs end by themselves and need no probes.

var livenessProbe = &Check{
	ID: "liveness-probe-missing", Title: "No liveness probe", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "A program that hangs, or is hung by an attacker, is restarted only when something asks whether it lives.",
	Fix:       "Add a livenessProbe that answers without the program's dependencies.",
	Standards: []string{"NIST SI-13"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if !longRunning(w, c) {
			j.Skip()
		} else if c.LivenessProbe == nil {
			j.Fail(c.Path+".livenessProbe", "livenessProbe is not set")
		}
	},
}

var readinessProbe = &Check{
	ID: "readiness-probe-missing", Title: "No readiness probe", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "Without a readiness probe traffic goes to a program that is not able to serve, and a rollout of a broken or hardened version is not stopped.",
	Fix:       "Add a readinessProbe.",
	Standards: []string{"NIST SI-13"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if !longRunning(w, c) {
			j.Skip()
		} else if c.ReadinessProbe == nil {
			j.Fail(c.Path+".readinessProbe", "readinessProbe is not set")
		}
	},
}

func longRunning(w *cluster.Workload, c *cluster.Container) bool {
	if c.Kind != cluster.Regular {
		return false
	}
	switch x := w.Typed.(type) {
	case *batchv1.Job, *batchv1.CronJob:
		return false
	case *corev1.Pod:
		return x.Spec.RestartPolicy == "" || x.Spec.RestartPolicy == corev1.RestartPolicyAlways
	}
	return true
}
