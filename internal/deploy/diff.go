package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// compare says what a server-side apply made, or would make, of an object. Field ownership counts, times do not.
func compare(before, after *unstructured.Unstructured) Action {
	if before == nil {
		return Created
	}
	if reflect.DeepEqual(settled(before), settled(after)) && reflect.DeepEqual(ownership(before), ownership(after)) {
		return Unchanged
	}
	return Configured
}

// settled is an object without what the server counts and controllers report.
func settled(o *unstructured.Unstructured) map[string]any {
	m := runtime.DeepCopyJSON(o.Object)
	delete(m, "status")
	meta, _ := m["metadata"].(map[string]any)
	for _, k := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
		delete(meta, k)
	}
	return m
}

func ownership(o *unstructured.Unstructured) []metav1.ManagedFieldsEntry {
	out := slices.Clone(o.GetManagedFields())
	out = slices.DeleteFunc(out, func(m metav1.ManagedFieldsEntry) bool { return m.Subresource == "status" })
	for i := range out {
		out[i].Time = nil
	}
	return out
}

// diff is the unified diff of everything that would change, object by object.
func (f *forecast) diff() string {
	var b strings.Builder
	write := func(name string, before, after []byte) {
		b.Write(diff.Diff("live/"+name, before, "plan/"+name, after))
	}
	for _, it := range f.items {
		after := it.would
		if after == nil {
			after = it.want
		}
		if it.expect == Unchanged || it.expect == Failed {
			continue
		}
		write(it.String(), text(it.live), text(after))
	}
	for _, l := range f.leftovers {
		if l.keep == "" {
			write(refOf(l.object).String(), text(l.object), nil)
		}
	}
	return b.String()
}

// text is an object as YAML, without what the server counts. Where a user could read a secret, there is its length.
func text(o *unstructured.Unstructured) []byte {
	if o == nil {
		return nil
	}
	m := settled(o)
	if o.GetKind() == "Secret" && o.GroupVersionKind().Group == "" {
		for _, k := range []string{"data", "stringData"} {
			if d, ok := m[k].(map[string]any); ok {
				for name, v := range d {
					s, _ := v.(string)
					d[name] = fmt.Sprintf("(%d characters, not shown)", len(s))
				}
			}
		}
		if meta, ok := m["metadata"].(map[string]any); ok {
			if a, ok := meta["annotations"].(map[string]any); ok {
				delete(a, "kubectl.kubernetes.io/last-applied-configuration") // it repeats the data
			}
		}
	}
	y, err := yaml.Marshal(m)
	if err != nil { // what came from JSON goes back into it
		j, _ := json.Marshal(refOf(o))
		return j
	}
	return y
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
