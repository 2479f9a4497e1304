package check

import (
	"slices"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A star also grants what does not exist yet: the next API, the next verb.
var rbacWildcard = &Check{
	ID: "rbac-wildcard", Title: "Role uses wildcards", Severity: finding.High, Layer: artifact.Access,
	Rationale: "A star grants what nobody thought of when it was written: secrets, new kinds, and the verbs bind, escalate and impersonate.",
	Fix:       "List the groups, resources and verbs that are used.",
	Standards: []string{"CIS 5.1.3", "NIST AC-6", "NSA Authentication and authorization", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: func(j *Judge, o *cluster.Object) {
		r := j.roles.byObject[o]
		if r == nil || r.builtin || r.aggregated {
			j.Skip()
			return
		}
		for i := range r.rules {
			rule := &r.rules[i]
			verbs, resources, groups := slices.Contains(rule.Verbs, "*"), slices.Contains(rule.Resources, "*"), slices.Contains(rule.APIGroups, "*")
			at, what, s := "rules["+itoa(i)+"]", "", finding.High
			switch {
			case all(rule) && r.cluster:
				what, s = "every verb on every resource", finding.Critical
			case all(rule):
				what, s = "every verb on every resource of the namespace", finding.Critical
			case resources && verbs:
				at, what = at+".resources", "every verb on every resource of the groups"
			case resources:
				at, what = at+".resources", "every resource of the groups"
			case verbs && len(rule.Resources) > 0:
				at, what, s = at+".verbs", "every verb", finding.Medium
			case groups:
				at, what, s = at+".apiGroups", "the resources' names in every group", finding.Low
			}
			if what == "" {
				continue
			}
			holders, bound := r.holders()
			if !bound {
				s = lesser(s)
			}
			if byName(rule) {
				s = lesser(s)
			}
			j.FailAs(s, at, "grants "+what+"; "+holders)
		}
	},
}
