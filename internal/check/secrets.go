package check

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A secret in a manifest is read by everybody who reads the repository, the API server without the right to secrets, a
// describe, or the process list. The findings name the place and the kind of secret; the secret itself stays out of them.

var secretInEnv = &Check{
	ID: "secret-in-env", Title: "Secret in an environment variable's literal value", Severity: finding.High, Layer: artifact.Secrets,
	Rationale: "The value stands in the manifest, in the repository's history, in etcd as plain text, and in the output of everybody who may read pods.",
	Fix:       "Move it into a Secret that an external store fills, mount that as a file, and change the secret: it is known now.",
	Standards: []string{"CIS 5.4.1", "NIST IA-5(7)", "OWASP K8s K08"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		for i := range c.Env {
			e := &c.Env[i]
			if e.Value == "" {
				continue
			}
			if what := tokenIn(e.Value); what != "" {
				j.Fail(c.Path+".env["+strconv.Itoa(i)+"].value", "variable "+e.Name+" holds "+what)
			} else if secretName(e.Name) {
				if what, ok := secretValue(e.Value); ok {
					j.Fail(c.Path+".env["+strconv.Itoa(i)+"].value", "variable "+e.Name+" holds "+what+" in plain text")
				}
			}
		}
	},
}

var secretInArgs = &Check{
	ID: "secret-in-arguments", Title: "Secret in a command or its arguments", Severity: finding.High, Layer: artifact.Secrets,
	Rationale: "Arguments stand in the manifest and in the process list: every user of the node and every agent reads them, and crash reports carry them away.",
	Fix:       "Give the program a file from a mounted Secret, and change the secret: it is known now.",
	Standards: []string{"CIS 5.4.1", "NIST IA-5(7)", "OWASP K8s K08"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		for _, l := range [...]struct {
			field string
			list  []string
		}{{"command", c.Command}, {"args", c.Args}} {
			for i, a := range l.list {
				at := c.Path + "." + l.field
				if what := tokenIn(a); what != "" {
					j.Fail(at+"["+strconv.Itoa(i)+"]", "an argument holds "+what)
					continue
				}
				if name, ok := secretArgument(a, l.list[i+1:]); ok {
					j.Fail(at+"["+strconv.Itoa(i)+"]", name+" is given in plain text")
				}
			}
		}
	},
}

// secretArgument finds "--db-password=x", "--token x" and, in a shell line, "PASSWORD=x".
func secretArgument(a string, next []string) (name string, found bool) {
	if !strings.ContainsAny(a, " \t\n") {
		flag, v, ok := strings.Cut(a, "=")
		if !strings.HasPrefix(flag, "-") && !ok || !secretName(strings.TrimLeft(flag, "-")) {
			return "", false
		}
		if !ok && len(next) > 0 && !strings.HasPrefix(next[0], "-") {
			v = next[0]
		}
		_, secret := secretValue(v)
		return flag, secret
	}
	if len(a) > 1<<14 {
		a = a[:1<<14]
	}
	for _, w := range strings.Fields(a) {
		if name, v, ok := strings.Cut(w, "="); ok && secretName(strings.TrimLeft(name, "-")) {
			if _, secret := secretValue(strings.Trim(v, `"';`)); secret {
				return name, true
			}
		}
	}
	return "", false
}

var secretInConfigMap = &Check{
	ID: "secret-in-config-map", Title: "Secret in a ConfigMap", Severity: finding.High, Layer: artifact.Secrets,
	Rationale: "ConfigMaps are not encrypted at rest, not kept out of logs, and readable by everybody who may look at configuration: the view role shows them.",
	Fix:       "Move it into a Secret that an external store fills, and change the secret: it is known now.",
	Standards: []string{"CIS 5.4.1", "NIST IA-5(7)", "NIST SC-28(1)", "OWASP K8s K08"},
	Kinds:     []string{"/ConfigMap"},
	Object: func(j *Judge, o *cluster.Object) {
		cm, ok := o.Typed.(*corev1.ConfigMap)
		if !ok {
			j.Skip()
			return
		}
		for _, k := range sortedKeys(cm.Data) {
			v := cm.Data[k]
			at := `data["` + k + `"]`
			if what := tokenIn(v); what != "" {
				j.Fail(at, "key "+k+" holds "+what)
				continue
			}
			if !strings.Contains(v, "\n") && secretName(k) {
				if what, ok := secretValue(v); ok {
					j.Fail(at, "key "+k+" holds "+what+" in plain text")
				}
				continue
			}
			if name, what := secretInLines(v); name != "" {
				j.Fail(at, "key "+k+" has a line "+name+" with "+what)
			}
		}
		for _, k := range sortedBytes(cm.BinaryData) {
			if what := tokenIn(string(cm.BinaryData[k])); what != "" {
				j.Fail(`binaryData["`+k+`"]`, "key "+k+" holds "+what)
			}
		}
	},
}

func sortedKeys(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func sortedBytes(m map[string][]byte) []string {
	if len(m) == 0 {
		return nil
	}
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

var secretCommitted = &Check{
	ID: "secret-in-manifest", Title: "Secret's contents are in a file", Severity: finding.Medium, Layer: artifact.Secrets,
	Rationale: "base64 is not encryption. A Secret manifest in a repository is known to everybody who has, or ever had, a clone.",
	Fix:       "Use an ExternalSecret or a SealedSecret, take the file out of the history, and change the secret.",
	Standards: []string{"CIS 5.4.2", "NIST IA-5(7)", "OWASP K8s K08"},
	Kinds:     []string{"/Secret"},
	Object: func(j *Judge, o *cluster.Object) {
		s, ok := o.Typed.(*corev1.Secret)
		if !ok || j.Snap.Live {
			j.Skip() // in the cluster is where a Secret belongs
			return
		}
		var keys []string
		at := "data"
		for k, v := range s.Data {
			if !reference(string(v)) {
				keys = append(keys, k)
			}
		}
		for k, v := range s.StringData {
			if !reference(v) {
				keys = append(keys, k)
				at = "stringData"
			}
		}
		if len(keys) == 0 {
			return
		}
		slices.Sort(keys)
		j.Fail(at, "the file holds the contents of "+strings.Join(keys, ", "))
	},
}

var secretAsEnv = &Check{
	ID: "secret-as-env", Title: "Secret handed over as an environment variable", Severity: finding.Low, Layer: artifact.Secrets,
	Rationale: "Environment variables are inherited by child processes, printed by crash handlers and debug pages, and not updated when the secret is rotated.",
	Fix:       "Mount the Secret as a volume and read the file.",
	Standards: []string{"CIS 5.4.1", "NIST IA-5", "OWASP K8s K08"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		for i := range c.Env {
			if f := c.Env[i].ValueFrom; f != nil && f.SecretKeyRef != nil {
				j.Fail(c.Path+".env["+strconv.Itoa(i)+"].valueFrom.secretKeyRef", "variable "+c.Env[i].Name+" is key "+f.SecretKeyRef.Key+" of Secret "+f.SecretKeyRef.Name)
			}
		}
		for i := range c.EnvFrom {
			if r := c.EnvFrom[i].SecretRef; r != nil {
				j.Fail(c.Path+".envFrom["+strconv.Itoa(i)+"].secretRef", "every key of Secret "+r.Name)
			}
		}
	},
}
