package check

import (
	"strconv"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// currentMinor is the newest Kubernetes 1.x that the table below knows; it counts where no spec names a version.
const currentMinor = 37

// A defence written in a version that the server no longer serves is refused, or worse, skipped by a script that carries on.
var apiVersions = &Check{
	ID: "api-version-removed", Title: "API version is not served any more", Severity: finding.Medium, Layer: artifact.Admission,
	Rationale: "The API server refuses the object: a NetworkPolicy or Role in a removed version does not exist after the upgrade. The API's own deprecation guide lists them.",
	Fix:       "Write the object in the version that replaced it.",
	Standards: []string{"NIST CM-6", "OWASP K8s K09"},
	Kinds:     []string{"*"},
	Object: func(j *Judge, o *cluster.Object) {
		if j.Snap.Live {
			j.Skip() // the server gave the object in a version that it serves
			return
		}
		if !strings.Contains(o.APIVersion, "beta") && !strings.Contains(o.APIVersion, "alpha") && o.Kind != "PodSecurityPolicy" {
			return
		}
		minor := currentMinor
		if j.Platform != nil {
			if n, ok := minorOf(j.Platform.Spec.Kubernetes); ok {
				minor = n
			}
		}
		for i := range removedVersions {
			r := &removedVersions[i]
			if r.version != o.APIVersion || r.kinds != "" && !hasField(r.kinds, o.Kind) {
				continue
			}
			at := "apiVersion"
			if minor >= r.removed {
				m := o.APIVersion + " " + o.Kind + " was removed in Kubernetes 1." + strconv.Itoa(r.removed)
				if r.instead != "" {
					m += "; use " + r.instead
				}
				j.Fail(at, m)
			} else {
				j.FailAs(finding.Low, at, o.APIVersion+" "+o.Kind+" goes away in Kubernetes 1."+strconv.Itoa(r.removed)+"; use "+r.instead)
			}
			return
		}
	},
}

func minorOf(v string) (int, bool) {
	_, m, ok := strings.Cut(strings.TrimPrefix(v, "v"), ".")
	n, err := strconv.Atoi(m)
	return n, ok && err == nil
}

func hasField(list, word string) bool {
	for _, f := range strings.Fields(list) {
		if f == word {
			return true
		}
	}
	return false
}

// removedVersions is from kubernetes.io/docs/reference/using-api/deprecation-guide. kinds "" means all of the version.
var removedVersions = [...]struct {
	version, kinds string
	removed        int
	instead        string
}{
	{"extensions/v1beta1", "Deployment DaemonSet ReplicaSet", 16, "apps/v1"},
	{"extensions/v1beta1", "NetworkPolicy", 16, "networking.k8s.io/v1"},
	{"extensions/v1beta1", "PodSecurityPolicy", 16, "Pod Security labels"},
	{"extensions/v1beta1", "Ingress", 22, "networking.k8s.io/v1"},
	{"apps/v1beta1", "", 16, "apps/v1"},
	{"apps/v1beta2", "", 16, "apps/v1"},
	{"networking.k8s.io/v1beta1", "Ingress IngressClass", 22, "networking.k8s.io/v1"},
	{"rbac.authorization.k8s.io/v1alpha1", "", 22, "rbac.authorization.k8s.io/v1"},
	{"rbac.authorization.k8s.io/v1beta1", "", 22, "rbac.authorization.k8s.io/v1"},
	{"apiextensions.k8s.io/v1beta1", "", 22, "apiextensions.k8s.io/v1"},
	{"apiregistration.k8s.io/v1beta1", "", 22, "apiregistration.k8s.io/v1"},
	{"admissionregistration.k8s.io/v1beta1", "ValidatingWebhookConfiguration MutatingWebhookConfiguration", 22, "admissionregistration.k8s.io/v1"},
	{"admissionregistration.k8s.io/v1beta1", "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding", 34, "admissionregistration.k8s.io/v1"},
	{"admissionregistration.k8s.io/v1alpha1", "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding", 34, "admissionregistration.k8s.io/v1"},
	{"certificates.k8s.io/v1beta1", "CertificateSigningRequest", 22, "certificates.k8s.io/v1"},
	{"coordination.k8s.io/v1beta1", "Lease", 22, "coordination.k8s.io/v1"},
	{"scheduling.k8s.io/v1beta1", "", 22, "scheduling.k8s.io/v1"},
	{"storage.k8s.io/v1beta1", "CSIDriver CSINode StorageClass VolumeAttachment", 22, "storage.k8s.io/v1"},
	{"storage.k8s.io/v1beta1", "CSIStorageCapacity", 27, "storage.k8s.io/v1"},
	{"authentication.k8s.io/v1beta1", "TokenReview", 22, "authentication.k8s.io/v1"},
	{"authorization.k8s.io/v1beta1", "", 22, "authorization.k8s.io/v1"},
	{"batch/v1beta1", "CronJob", 25, "batch/v1"},
	{"batch/v2alpha1", "CronJob", 21, "batch/v1"},
	{"discovery.k8s.io/v1beta1", "EndpointSlice", 25, "discovery.k8s.io/v1"},
	{"events.k8s.io/v1beta1", "Event", 25, "events.k8s.io/v1"},
	{"autoscaling/v2beta1", "", 25, "autoscaling/v2"},
	{"autoscaling/v2beta2", "", 26, "autoscaling/v2"},
	{"policy/v1beta1", "PodDisruptionBudget", 25, "policy/v1"},
	{"policy/v1beta1", "PodSecurityPolicy", 25, "Pod Security labels"},
	{"node.k8s.io/v1beta1", "RuntimeClass", 25, "node.k8s.io/v1"},
	{"flowcontrol.apiserver.k8s.io/v1beta1", "", 26, "flowcontrol.apiserver.k8s.io/v1"},
	{"flowcontrol.apiserver.k8s.io/v1beta2", "", 29, "flowcontrol.apiserver.k8s.io/v1"},
	{"flowcontrol.apiserver.k8s.io/v1beta3", "", 32, "flowcontrol.apiserver.k8s.io/v1"},
}
