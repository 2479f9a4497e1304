package server

import (
	"context"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/statefulset"
)

// workloadControllers make pods out of templates. Their constructors follow
// k8s.io/kubernetes/cmd/kube-controller-manager/app, batch.go and apps.go.
var workloadControllers = []construct{
	{"deployment-controller", newDeploymentController},
	{"replicaset-controller", newReplicaSetController},
	{"statefulset-controller", newStatefulSetController},
	{"daemon-set-controller", newDaemonSetController},
	{"job-controller", newJobController},
	{"cronjob-controller", newCronJobController},
}

func newDeploymentController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	apps := b.informers.Apps().V1()
	c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), b.informers.Core().V1().Pods(), client)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func newReplicaSetController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	c := replicaset.NewReplicaSetController(ctx, b.informers.Apps().V1().ReplicaSets(), b.informers.Core().V1().Pods(), client,
		replicaset.BurstReplicas)
	return c.Run, nil
}

func newStatefulSetController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	apps, core := b.informers.Apps().V1(), b.informers.Core().V1()
	c := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(),
		apps.ControllerRevisions(), client)
	return c.Run, nil
}

func newDaemonSetController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	apps, core := b.informers.Apps().V1(), b.informers.Core().V1()
	c, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), client,
		flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func newJobController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	// Workloads and PodGroups are for a feature gate that is off.
	c, err := job.NewController(ctx, client, b.informers.Core().V1().Pods(), b.informers.Batch().V1().Jobs(), nil, nil)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func newCronJobController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	batch := b.informers.Batch().V1()
	c, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), client)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}
