package cluster

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// AsWorkload gives the pod inside an object, or nil when the object holds none. The Typed forms are those of
// k8s.io/api; older versions of the same kinds (batch/v1beta1 CronJob) are read into the newest type, because their pod
// template is the same.
func AsWorkload(o *Object) *Workload {
	tmpl := func(t *corev1.PodTemplateSpec, path string) *Workload {
		return &Workload{Object: o, PodMeta: &t.ObjectMeta, Spec: &t.Spec, MetaPath: path + ".metadata", SpecPath: path + ".spec"}
	}
	switch x := o.Typed.(type) {
	case *corev1.Pod:
		return &Workload{Object: o, PodMeta: &x.ObjectMeta, Spec: &x.Spec, MetaPath: "metadata", SpecPath: "spec"}
	case *corev1.PodTemplate:
		return tmpl(&x.Template, "template")
	case *corev1.ReplicationController:
		if x.Spec.Template == nil {
			return nil
		}
		return tmpl(x.Spec.Template, "spec.template")
	case *appsv1.Deployment:
		return tmpl(&x.Spec.Template, "spec.template")
	case *appsv1.StatefulSet:
		return tmpl(&x.Spec.Template, "spec.template")
	case *appsv1.DaemonSet:
		return tmpl(&x.Spec.Template, "spec.template")
	case *appsv1.ReplicaSet:
		return tmpl(&x.Spec.Template, "spec.template")
	case *batchv1.Job:
		return tmpl(&x.Spec.Template, "spec.template")
	case *batchv1.CronJob:
		return tmpl(&x.Spec.JobTemplate.Spec.Template, "spec.jobTemplate.spec.template")
	}
	return nil
}
