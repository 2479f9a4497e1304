// Package artifact holds what the compiler makes: objects and files, each with its layer and the spec lines that caused
// it, in the order in which they are deployed; and what is stated as not protected.
package artifact

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/source"
)

// Layer is one kind of defence.
type Layer string

// The layers.
const (
	Pods        Layer = "pods"
	Syscalls    Layer = "syscalls"
	Network     Layer = "network"
	Mesh        Layer = "mesh"
	Ingress     Layer = "ingress"
	Secrets     Layer = "secrets"
	Access      Layer = "access"
	Admission   Layer = "admission"
	SupplyChain Layer = "supply-chain"
	Detection   Layer = "detection"
	Monitoring  Layer = "monitoring"
)

// Layers lists all layers in the order in which reports show them.
var Layers = []Layer{Pods, Syscalls, Network, Mesh, Ingress, Secrets, Access, Admission, SupplyChain, Detection, Monitoring}

// Annotations and labels that Bulwark puts on what it generates.
const (
	// BecauseAnnotation names the spec lines that caused the object.
	BecauseAnnotation = "bulwark.dev/because"
	// PlatformLabel names the platform whose spec caused the object; prune selects on it.
	PlatformLabel = "bulwark.dev/platform"
	// LayerLabel names the object's layer.
	LayerLabel = "bulwark.dev/layer"
)

// Cause is one reason for an artifact: a place in the spec and the field's path there.
type Cause struct {
	At    source.Pos
	Field string // "spec.flows[2]"
}

// String gives "platform.yaml:34 spec.flows[2]", with the file's base name so that output does not depend on where the
// spec lies.
func (c Cause) String() string {
	if c.At.Line == 0 {
		return c.Field
	}
	return fmt.Sprintf("%s:%d %s", path.Base(c.At.File), c.At.Line, c.Field)
}

// Artifact is one generated object or file.
type Artifact struct {
	Layer Layer
	// Path is the file it is written to, slash-separated, relative to the output folder. Several objects may share one.
	Path string
	// Object is a Kubernetes object in its unstructured form; nil for a plain file.
	Object map[string]any
	// Content is a plain file's bytes; nil for an object.
	Content []byte
	Why     []Cause
	// Internal is true for an object that is deployed as part of a chart and not applied by itself.
	Internal bool
}

// Gap is something that the spec asks for and that no layer of this plan protects.
type Gap struct {
	Layer   Layer  `json:"layer"`
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
	// Because names the spec lines.
	Because string `json:"because,omitempty"`
}

// Plan is all that was compiled, in order of deployment.
type Plan struct {
	Platform  string
	Artifacts []Artifact
	Gaps      []Gap
}

// Because gives the annotation's text for some causes.
func Because(why []Cause) string {
	s := make([]string, 0, len(why))
	for _, c := range why {
		if t := c.String(); !slices.Contains(s, t) {
			s = append(s, t)
		}
	}
	return strings.Join(s, ", ")
}

// ID names an object artifact as "apiVersion/Kind namespace/name", a file by its path.
func (a Artifact) ID() string {
	if a.Object == nil {
		return a.Path
	}
	m, _ := a.Object["metadata"].(map[string]any)
	ns, _ := m["namespace"].(string)
	name, _ := m["name"].(string)
	if ns != "" {
		name = ns + "/" + name
	}
	return fmt.Sprintf("%v/%v %s", a.Object["apiVersion"], a.Object["kind"], name)
}

// YAML gives an object's bytes, keys sorted, or a plain file's content.
func (a Artifact) YAML() ([]byte, error) {
	if a.Object == nil {
		return a.Content, nil
	}
	return yaml.Marshal(a.Object)
}

// Files gives every file's bytes by path. Objects that share a file follow each other as documents, in the plan's order.
func (p *Plan) Files() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, a := range p.Artifacts {
		b, err := a.YAML()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.ID(), err)
		}
		if a.Object == nil {
			if _, twice := out[a.Path]; twice {
				return nil, fmt.Errorf("two artifacts claim the file %s", a.Path)
			}
			out[a.Path] = b
			continue
		}
		var buf bytes.Buffer
		if prev, ok := out[a.Path]; ok {
			buf.Write(prev)
		} else {
			fmt.Fprintf(&buf, "# Compiled from the Platform %s by `bulwark render`; edit that, not this file.\n", p.Platform)
		}
		buf.WriteString("---\n")
		buf.Write(b)
		out[a.Path] = buf.Bytes()
	}
	return out, nil
}
