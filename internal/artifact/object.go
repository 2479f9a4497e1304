package artifact

import (
	"encoding/json"
	"fmt"
)

// FieldManager owns the fields that Bulwark applies (server-side apply).
const FieldManager = "bulwark"

// Stage is how far the platform has adopted its policies.
type Stage string

// The stages, in the order in which people adopt them: record, tell, refuse.
const (
	Audit   Stage = "audit"
	Warn    Stage = "warn"
	Enforce Stage = "enforce"
)

// Part is what one layer's compiler contributes to the plan.
type Part struct {
	Artifacts []Artifact
	Gaps      []Gap
}

// Add appends an object artifact made of a typed Kubernetes object (with TypeMeta set). It stamps the platform and layer
// labels and the because-annotation, and drops what a client never sends: status, null timestamps, empty resources.
//
// It panics when typed is not a Kubernetes object: that is a mistake of the compiler, not of its input.
func (p *Part) Add(platform string, layer Layer, path string, typed any, why ...Cause) *Artifact {
	b, err := json.Marshal(typed)
	if err != nil {
		panic(fmt.Sprintf("artifact: %T does not marshal: %v", typed, err))
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		panic(fmt.Sprintf("artifact: %T is not an object: %v", typed, err))
	}
	if m["kind"] == nil || m["apiVersion"] == nil {
		panic(fmt.Sprintf("artifact: %T has no TypeMeta", typed))
	}
	delete(m, "status")
	Prune(m)
	meta, _ := m["metadata"].(map[string]any)
	if meta == nil {
		panic(fmt.Sprintf("artifact: %T has no metadata", typed))
	}
	set(meta, "labels", PlatformLabel, platform)
	set(meta, "labels", LayerLabel, string(layer))
	set(meta, "labels", "app.kubernetes.io/managed-by", "bulwark")
	if len(why) > 0 {
		set(meta, "annotations", BecauseAnnotation, Because(why))
	}
	p.Artifacts = append(p.Artifacts, Artifact{Layer: layer, Path: path, Object: m, Why: why})
	return &p.Artifacts[len(p.Artifacts)-1]
}

// AddFile appends a plain file.
func (p *Part) AddFile(layer Layer, path string, content []byte, why ...Cause) {
	p.Artifacts = append(p.Artifacts, Artifact{Layer: layer, Path: path, Content: content, Why: why})
}

// Gap states something that this plan does not protect.
func (p *Part) Gap(layer Layer, subject, reason string, why ...Cause) {
	p.Gaps = append(p.Gaps, Gap{Layer: layer, Subject: subject, Reason: reason, Because: Because(why)})
}

func set(meta map[string]any, field, key, value string) {
	m, _ := meta[field].(map[string]any)
	if m == nil {
		m = map[string]any{}
		meta[field] = m
	}
	if _, given := m[key]; !given {
		m[key] = value
	}
}

// Prune removes nulls from an object in its unstructured form, as "creationTimestamp: null" or "strategy: {}" are only
// what Go's JSON makes of a zero value. Empty mappings are kept: an empty podSelector means "all pods".
func Prune(m map[string]any) {
	for k, v := range m {
		switch x := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			Prune(x)
			if len(x) == 0 && (k == "resources" || k == "strategy" || k == "updateStrategy" || k == "status") {
				delete(m, k)
			}
		case []any:
			for _, e := range x {
				if em, ok := e.(map[string]any); ok {
					Prune(em)
				}
			}
		}
	}
}
