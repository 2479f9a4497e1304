package cli

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/deploy"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/spec"
)

// sentinels gives deploy one request for each admission policy that the policy must refuse: an attack of the corpus that
// the user of the run may try himself.
func sentinels(p *spec.Platform, attacks []attack.Attack) []deploy.Sentinel {
	var out []deploy.Sentinel
	done := map[string]bool{}
	for _, a := range attacks {
		// The first of each policy is about a pod where the policy is. Namespaces come below.
		if a.Attempt.Verb != attack.Create || a.Attempt.Resource == "namespaces" || a.Layer != artifact.Admission || done[a.Intended] {
			continue
		}
		done[a.Intended] = true
		out = append(out, deploy.Sentinel{
			Policy: policyName(p, a.Intended),
			Request: deploy.Request{
				Verb:        "create",
				Resource:    schema.GroupVersionResource{Group: a.Attempt.Group, Version: a.Attempt.Version, Resource: a.Attempt.Resource},
				Subresource: a.Attempt.Subresource,
				Namespace:   a.Attempt.Namespace,
				Object:      a.Attempt.Object,
			},
		})
	}
	// Who deploys may change the guards, so the namespaces' guard is asked as somebody who may write a namespace's status
	// by Kubernetes' own roles and has no such right: the namespace controller.
	for _, ns := range spec.Sorted(p.Spec.Namespaces) {
		labels := map[string]any{p.Spec.LevelLabel(): "bulwark-sentinel"}
		out = append(out, deploy.Sentinel{
			Policy: admission.Name(p.Metadata.Name, "protect-namespaces"),
			Request: deploy.Request{
				Verb:        "update",
				Resource:    schema.GroupVersionResource{Version: "v1", Resource: "namespaces"},
				Subresource: "status",
				Name:        ns,
				Object:      map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns, "labels": labels}},
				As: rest.ImpersonationConfig{
					UserName: "system:serviceaccount:kube-system:namespace-controller",
					Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
				},
			},
		})
		break
	}
	return out
}

func policyName(p *spec.Platform, control string) string {
	return admission.Name(p.Metadata.Name, control[len("policy/"):])
}

// podJudge says which running pods the plan's admission policies would refuse. Pod Security is deploy's own part.
func podJudge(plan *artifact.Plan) (deploy.Judge, error) {
	d, err := prove.FromPlan(plan)
	if err != nil {
		return nil, err
	}
	engine, err := prove.NewOffline(d)
	if err != nil {
		return nil, err
	}
	return func(namespace *corev1.Namespace, pod *corev1.Pod) ([]string, error) {
		p := pod.DeepCopy()
		p.Namespace = namespace.Name
		p.Annotations = maps.Clone(p.Annotations)
		o := engine.JudgePod(context.Background(), p)
		if o.Unknown != "" {
			return nil, fmt.Errorf("%s", o.Unknown)
		}
		var reasons []string
		for _, list := range [][]prove.Refusal{o.Refusals, o.Warnings, o.Recorded} {
			for _, r := range list {
				if r.Control != attack.ControlPodSecurity(namespace.Name) {
					reasons = append(reasons, r.Control+": "+r.Message)
				}
			}
		}
		return reasons, nil
	}, nil
}
