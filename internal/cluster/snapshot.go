// Package cluster is the snapshot: the objects that exist, read from files or from a live cluster, immutable once built,
// with the indexes that checks need. It knows no client and no file system.
package cluster

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

// Object is one Kubernetes object.
type Object struct {
	APIVersion string
	Kind       string
	// Meta is never nil. For an object from a file without a namespace, Namespace is "" even where the kind is
	// namespaced; Namespace() of the snapshot's options decides what that means.
	Meta *metav1.ObjectMeta
	// Typed is a pointer to the Go type of k8s.io/api (*corev1.Pod, *appsv1.Deployment, …) where the kind is built in,
	// else nil.
	Typed any
	// Content is the unstructured form of an object whose kind is not built in, else nil.
	Content map[string]any
	// At is the place of the object's first line; zero on a live cluster.
	At source.Pos
	// Tree finds the lines of the object's fields; the zero Tree on a live cluster.
	Tree source.Tree
	// Problems are what the strict decoder refused: unknown and repeated fields, values of a wrong type. The rest of the
	// object was decoded and is judged.
	Problems []*source.Error
	// Rendered is true for an object that Helm or kustomize made. Its places are in the template or source file that it
	// came from, and as near as that can be told.
	Rendered bool
}

// Ref names the object.
func (o *Object) Ref() finding.Object {
	return finding.Object{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Meta.Namespace, Name: o.Name()}
}

// Name is the object's name, or its generateName with a star.
func (o *Object) Name() string {
	if o.Meta.Name == "" && o.Meta.GenerateName != "" {
		return o.Meta.GenerateName + "*"
	}
	return o.Meta.Name
}

// Group is the API group as the object writes it: "" for the core group. See CurrentGroup.
func (o *Object) Group() string {
	if g, _, ok := strings.Cut(o.APIVersion, "/"); ok {
		return g
	}
	return ""
}

// CurrentGroup is the group in which the object's kind lives today: a Deployment of extensions/v1beta1 is one of apps.
func (o *Object) CurrentGroup() string {
	g := o.Group()
	if g != "extensions" {
		return g
	}
	switch o.Kind {
	case "Deployment", "DaemonSet", "ReplicaSet":
		return "apps"
	case "Ingress", "NetworkPolicy":
		return "networking.k8s.io"
	case "PodSecurityPolicy":
		return "policy"
	}
	return g
}

// Place gives where a field stands, or the object when the field's place is unknown.
func (o *Object) Place(path string) source.Pos {
	if p := o.Tree.Find(path); p.Line > 0 {
		return p
	}
	return o.At
}

// Workload is anything that holds a pod: a bare Pod, a controller, a CronJob, a PodTemplate.
type Workload struct {
	*Object
	// PodMeta and Spec are the pod's (or the template's) own.
	PodMeta *metav1.ObjectMeta
	Spec    *corev1.PodSpec
	// MetaPath and SpecPath are the paths of PodMeta and Spec in the object: "spec.template.spec".
	MetaPath string
	SpecPath string
	// Owned is true for an object that a controller made: findings about it belong to its owner when the owner is in the
	// snapshot too.
	Owned bool
}

// ContainerKind tells regular, init and ephemeral containers apart.
type ContainerKind string

// The container lists of a pod spec.
const (
	Regular   ContainerKind = "containers"
	Init      ContainerKind = "initContainers"
	Ephemeral ContainerKind = "ephemeralContainers"
)

// Container is one container of a workload, of any of the three lists.
type Container struct {
	*corev1.Container
	Kind ContainerKind
	// Path is the container's path in the object: "spec.template.spec.containers[0]".
	Path string
}

// Containers lists all containers: init, regular, ephemeral.
func (w *Workload) Containers() []Container {
	out := make([]Container, 0, len(w.Spec.InitContainers)+len(w.Spec.Containers)+len(w.Spec.EphemeralContainers))
	for i := range w.Spec.InitContainers {
		out = append(out, Container{&w.Spec.InitContainers[i], Init, itemPath(w.SpecPath, string(Init), i)})
	}
	for i := range w.Spec.Containers {
		out = append(out, Container{&w.Spec.Containers[i], Regular, itemPath(w.SpecPath, string(Regular), i)})
	}
	for i := range w.Spec.EphemeralContainers {
		c := corev1.Container(w.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, Container{&c, Ephemeral, itemPath(w.SpecPath, string(Ephemeral), i)})
	}
	return out
}

func itemPath(prefix, list string, i int) string {
	return prefix + "." + list + "[" + itoa(i) + "]"
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}

// Snapshot is all that was read.
type Snapshot struct {
	Objects []*Object
	// Live is true for a snapshot of a running cluster: then an object that is absent does not exist. A snapshot of
	// files says nothing of what else runs in the cluster.
	Live bool
	// NotJudged lists what could not be read, and why.
	NotJudged []finding.NotJudged
	// Unlisted holds "group/resource" of what the live cluster would not let us list.
	Unlisted []string

	workloads []*Workload
	byKind    map[string][]*Object
}

// New builds a snapshot and its indexes. The order of objects is kept.
func New(objects []*Object, live bool, notJudged []finding.NotJudged) *Snapshot {
	s := &Snapshot{Objects: objects, Live: live, NotJudged: notJudged, byKind: map[string][]*Object{}}
	uids := map[string]bool{}
	for _, o := range objects {
		k := o.CurrentGroup() + "/" + o.Kind
		s.byKind[k] = append(s.byKind[k], o)
		if o.Meta.UID != "" {
			uids[string(o.Meta.UID)] = true
		}
	}
	for _, o := range objects {
		w := AsWorkload(o)
		if w == nil {
			continue
		}
		for _, r := range o.Meta.OwnerReferences {
			if r.Controller != nil && *r.Controller && uids[string(r.UID)] {
				w.Owned = true
			}
		}
		s.workloads = append(s.workloads, w)
	}
	return s
}

// Kind lists the objects of a kind in whatever version; group is the kind's group of today, "" for the core group.
func (s *Snapshot) Kind(group, kind string) []*Object { return s.byKind[group+"/"+kind] }

// Workloads lists everything that holds a pod.
func (s *Snapshot) Workloads() []*Workload { return s.workloads }

// Namespaces lists the names of all namespaces that occur, as objects or on objects, sorted.
func (s *Snapshot) Namespaces() []string {
	seen := map[string]bool{}
	for _, o := range s.Objects {
		if o.Group() == "" && o.Kind == "Namespace" {
			seen[o.Meta.Name] = true
		} else if o.Meta.Namespace != "" {
			seen[o.Meta.Namespace] = true
		}
	}
	out := make([]string, 0, len(seen))
	for n := range seen {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Selects reports whether a label selector selects the labels. A selector that does not parse selects nothing and
// gives an error; nil selects nothing; an empty one selects everything.
func Selects(sel *metav1.LabelSelector, l map[string]string) (bool, error) {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return false, err
	}
	return s.Matches(labels.Set(l)), nil
}
