package prove

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	psaapi "k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"

	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// CorpusReport is the JSON contract of `bulwark prove --corpus -o json`, version v1.
type CorpusReport struct {
	Version string        `json:"version"`
	Level   string        `json:"level"`
	Engine  string        `json:"engine"`
	Summary CorpusSummary `json:"summary"`
	Attacks []CorpusEntry `json:"attacks"`
	// NotJudged repeats the unknown entries and what could not be read at all.
	NotJudged []finding.NotJudged `json:"notJudged"`
}

// CorpusSummary counts files.
type CorpusSummary struct {
	Attacks  int `json:"attacks"`
	Blocked  int `json:"blocked"`
	Admitted int `json:"admitted"`
	Unknown  int `json:"unknown"`
}

// CorpusEntry is one file with what became of it: blocked when any pod in it was refused by Pod Security, admitted when
// every pod in it was let through, unknown otherwise.
type CorpusEntry struct {
	File     string          `json:"file"`
	Verdict  finding.Verdict `json:"verdict"`
	By       []string        `json:"by"`
	Evidence string          `json:"evidence"`
}

// PodTryer judges one workload's pod at a Pod Security level.
type PodTryer interface {
	Name() string
	TryPod(ctx context.Context, w *cluster.Workload) Outcome
}

// Corpus tries the pods of every file of a snapshot.
func Corpus(ctx context.Context, engine PodTryer, snap *cluster.Snapshot, level string) (*CorpusReport, error) {
	rep := &CorpusReport{Version: "v1", Level: level, Engine: engine.Name(), Attacks: []CorpusEntry{}, NotJudged: []finding.NotJudged{}}
	entries := map[string]*CorpusEntry{}
	entry := func(file string) *CorpusEntry {
		if entries[file] == nil {
			entries[file] = &CorpusEntry{File: file, By: []string{}}
		}
		return entries[file]
	}
	for _, w := range snap.Workloads() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := entry(w.At.File)
		o := engine.TryPod(ctx, w)
		switch {
		case e.Verdict == finding.Blocked:
		case o.Unknown != "":
			e.Verdict, e.Evidence = finding.Unknown, shorten(w.Ref().String()+": "+o.Unknown)
		case !o.Admitted:
			if r := o.Refusals[0]; strings.HasPrefix(r.Control, "podsecurity/") {
				e.Verdict, e.By, e.Evidence = finding.Blocked, []string{r.Control}, shorten(w.Ref().String()+": "+r.Message)
			} else {
				e.Verdict, e.Evidence = finding.Unknown, shorten(w.Ref().String()+": refused by "+r.Control+", not by Pod Security: "+r.Message)
			}
		case e.Verdict == "":
			e.Verdict, e.Evidence = finding.Admitted, "admitted"
		}
	}
	for _, n := range snap.NotJudged {
		if n.File == "" {
			rep.NotJudged = append(rep.NotJudged, n)
			continue
		}
		if e := entry(n.File); e.Verdict != finding.Blocked {
			e.Verdict, e.Evidence = finding.Unknown, n.Reason
		}
	}
	for _, o := range snap.Objects {
		if e := entry(o.At.File); e.Verdict == "" {
			e.Verdict, e.Evidence = finding.Unknown, "the file holds no pod"
		}
	}
	for _, e := range entries {
		rep.Attacks = append(rep.Attacks, *e)
	}
	slices.SortFunc(rep.Attacks, func(a, b CorpusEntry) int { return strings.Compare(a.File, b.File) })
	for _, e := range rep.Attacks {
		rep.Summary.Attacks++
		switch e.Verdict {
		case finding.Blocked:
			rep.Summary.Blocked++
		case finding.Admitted:
			rep.Summary.Admitted++
		default:
			rep.Summary.Unknown++
			rep.NotJudged = append(rep.NotJudged, finding.NotJudged{What: e.File, Reason: e.Evidence, File: e.File})
		}
	}
	return rep, nil
}

// PodSecurity judges with the Pod Security library.
type PodSecurity struct {
	evaluator psa.Evaluator
	level     psaapi.LevelVersion
}

// NewPodSecurity gives the offline judge of a level ("baseline", "restricted") at a Kubernetes version ("1.37").
func NewPodSecurity(level, kubernetes string) (*PodSecurity, error) {
	l, err := psaapi.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("unknown Pod Security level %q; one of: privileged, baseline, restricted", level)
	}
	v, err := psaapi.ParseVersion("v" + kubernetes)
	if err != nil {
		return nil, fmt.Errorf("kubernetes version %q: %w", kubernetes, err)
	}
	ev, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	return &PodSecurity{evaluator: ev, level: psaapi.LevelVersion{Level: l, Version: v}}, nil
}

// Name implements PodTryer.
func (p *PodSecurity) Name() string {
	return "offline: the Pod Security library at " + p.level.String()
}

// TryPod implements PodTryer.
func (p *PodSecurity) TryPod(_ context.Context, w *cluster.Workload) Outcome {
	res := EvaluatePod(p.evaluator, p.level, w.PodMeta, w.Spec)
	if res.Allowed {
		return Outcome{Admitted: true}
	}
	return Outcome{Refusals: []Refusal{{Control: "podsecurity/" + p.level.String(), Message: res.ForbiddenDetail()}}}
}

// LivePods tries pods in a namespace of its own on a real API server, each as whoever would create it there.
type LivePods struct {
	engine    *Live
	namespace string
	discovery discovery.DiscoveryInterface
	served    map[string]map[string]bool
}

// NewLivePods makes the namespace, with the level enforced, and returns the function that removes it.
func NewLivePods(ctx context.Context, cfg *rest.Config, level, kubernetesVersion string) (_ *LivePods, cleanup func(context.Context) error, err error) {
	if _, err := psaapi.ParseLevel(level); err != nil {
		return nil, nil, fmt.Errorf("unknown Pod Security level %q; one of: privileged, baseline, restricted", level)
	}
	engine, err := NewLive(cfg, nil)
	if err != nil {
		return nil, nil, err
	}
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	ns, err := cl.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "bulwark-prove-" + level + "-",
		Labels: map[string]string{
			TemporaryLabel:                               "prove",
			"pod-security.kubernetes.io/enforce":         level,
			"pod-security.kubernetes.io/enforce-version": "v" + kubernetesVersion,
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return nil, nil, explain("create a namespace for the corpus", err)
	}
	l := &LivePods{engine: engine, namespace: ns.Name, discovery: cl.Discovery(), served: map[string]map[string]bool{}}
	r := &runner{cl: cl}
	r.later(func(ctx context.Context) error {
		return cl.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{})
	})
	defer func() {
		if err != nil {
			rescue, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			err = errors.Join(err, r.clean(rescue))
		}
	}()
	if err := r.deployer(ctx, ns.Name); err != nil {
		return nil, nil, explain("give the corpus' deployer its rights", err)
	}
	if err := r.wait(ctx, ns.Name, attack.Deployer, authv1.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: ns.Name}); err != nil {
		return nil, nil, err
	}
	return l, r.clean, nil
}

// Name implements PodTryer.
func (l *LivePods) Name() string { return l.engine.Name() }

// makers names the controller that creates the pods of a kind. The pods of a Deployment come from its ReplicaSet, those
// of a CronJob from its Job.
var makers = map[string]string{
	"Deployment": "replicaset-controller", "ReplicaSet": "replicaset-controller", "StatefulSet": "statefulset-controller",
	"DaemonSet": "daemon-set-controller", "Job": "job-controller", "CronJob": "job-controller", "ReplicationController": "replication-controller",
}

// TryPod implements PodTryer. A kind that the server does not serve is unknown: nobody could create it there.
func (l *LivePods) TryPod(ctx context.Context, w *cluster.Workload) Outcome {
	ok, err := l.serves(w.APIVersion, w.Kind)
	if err != nil {
		return unknown(err.Error())
	}
	if !ok {
		return unknown(fmt.Sprintf("the API server does not serve %s %s", w.APIVersion, w.Kind))
	}
	as := attack.Deployer
	if maker := makers[w.Kind]; maker != "" {
		as = attack.ServiceAccount("kube-system", maker)
	}
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{
		GenerateName: "corpus-", Namespace: l.namespace, Labels: w.PodMeta.Labels, Annotations: w.PodMeta.Annotations,
	}, Spec: *w.Spec.DeepCopy()}
	if len(pod.Spec.EphemeralContainers) > 0 {
		return unknown("a pod with ephemeral containers cannot be created; they are added to one that runs")
	}
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return unknown(err.Error())
	}
	return l.engine.Try(ctx, attack.Request{As: as, Verb: attack.Create, Version: "v1", Resource: "pods", Namespace: l.namespace, Object: u})
}

func (l *LivePods) serves(apiVersion, kind string) (bool, error) {
	kinds, ok := l.served[apiVersion]
	if !ok {
		kinds = map[string]bool{}
		list, err := l.discovery.ServerResourcesForGroupVersion(apiVersion)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("ask the API server about %s: %w", apiVersion, err)
		}
		if list != nil {
			for _, r := range list.APIResources {
				kinds[r.Kind] = true
			}
		}
		l.served[apiVersion] = kinds
	}
	return kinds[kind], nil
}
