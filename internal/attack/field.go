package attack

import (
	"fmt"
	"strconv"
	"strings"
)

// assign sets the value at a path such as `spec.containers[0].image` or `metadata.labels["a/b"]` in an object and
// returns it. Mappings and list items on the way are made. A nil value removes the field. A mapping is merged into a
// mapping that is there, and a list of named items ("containers") into a list of named items, so that an attack says
// only what it changes.
func assign(root map[string]any, path string, value any) error {
	keys, err := split(path)
	if err != nil {
		return err
	}
	var set func(v any, keys []any) (any, error)
	set = func(v any, keys []any) (any, error) {
		if len(keys) == 0 {
			return merge(v, value), nil
		}
		switch k := keys[0].(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				if v != nil {
					return nil, fmt.Errorf("%s: %q is not in a mapping", path, k)
				}
				m = map[string]any{}
			}
			child, err := set(m[k], keys[1:])
			if err != nil {
				return nil, err
			}
			if child == nil {
				delete(m, k)
			} else {
				m[k] = child
			}
			return m, nil
		case int:
			l, ok := v.([]any)
			if !ok || k >= len(l) {
				return nil, fmt.Errorf("%s: there is no item %d", path, k)
			}
			child, err := set(l[k], keys[1:])
			if err != nil {
				return nil, err
			}
			l[k] = child
			return l, nil
		}
		return nil, fmt.Errorf("%s: bad key", path)
	}
	_, err = set(root, keys)
	return err
}

func merge(old, value any) any {
	switch v := value.(type) {
	case map[string]any:
		o, ok := old.(map[string]any)
		if !ok {
			o = map[string]any{}
		}
		for k, x := range v {
			if x == nil {
				delete(o, k)
			} else {
				o[k] = merge(o[k], x)
			}
		}
		return o
	case []any:
		o, ok := old.([]any)
		if !ok || !named(o) || !named(v) {
			return clone(v)
		}
		for _, x := range v {
			xm := x.(map[string]any)
			found := false
			for i := range o {
				if om := o[i].(map[string]any); om["name"] == xm["name"] {
					o[i], found = merge(om, xm), true
				}
			}
			if !found {
				o = append(o, clone(x))
			}
		}
		return o
	}
	return value
}

func named(l []any) bool {
	for _, x := range l {
		if m, ok := x.(map[string]any); !ok || m["name"] == nil {
			return false
		}
	}
	return len(l) > 0
}

func clone(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = clone(e)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, e := range x {
			l[i] = clone(e)
		}
		return l
	}
	return v
}

func split(path string) ([]any, error) {
	var out []any
	rest := path
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, `["`):
			end := strings.Index(rest, `"]`)
			if end < 0 {
				return nil, fmt.Errorf("%s: unclosed bracket", path)
			}
			out, rest = append(out, rest[2:end]), rest[end+2:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("%s: unclosed bracket", path)
			}
			n, err := strconv.Atoi(rest[1:end])
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%s: bad index", path)
			}
			out, rest = append(out, n), rest[end+1:]
		case rest[0] == '.':
			rest = rest[1:]
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			out, rest = append(out, rest[:end]), rest[end:]
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("empty path")
	}
	return out, nil
}
