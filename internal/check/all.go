package check

import (
	"fmt"
	"slices"

	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// All lists every check, in the order in which documentation shows them; there is no other registration.
func All() []*Check {
	return []*Check{
		privileged,
		hostPID, hostIPC, hostNetwork,
		hostPathWritable, hostPathReadOnly, hostPathSensitive, runtimeSocket,
		hostPorts,
		privilegeEscalation,
		capabilitiesDangerous, capabilitiesAdded, capabilitiesKept,
		runAsRoot, runAsNonRoot, runAsUserUnset, runAsRootGroup,
		rootFilesystem,
		seccompUnset, seccompUnconfined,
		appArmorUnconfined,
		selinuxCustom,
		procMount,
		sysctls,
		windowsHostProcess,
		shareProcesses, hostUsers,
		volumeTypes,
		ephemeralContainer,
		probeHost,
		livenessProbe, readinessProbe,
		memoryLimit, resourceRequests,
		controlPlaneToleration, nodeName, systemPriority,
		tokenMounted, defaultAccount, tokenSecret,
		imageTag, imageDigest, imageTagAndDigest, imageRegistry, imagePullPolicy,
		imageTrust,
		baseImage,
		rbacWildcard,
		rbacSecrets, rbacWorkloads, rbacVolumes, rbacNodeProxy, rbacEscalate, rbacBind, rbacImpersonate, rbacCSR, rbacTokens, rbacAdmission, rbacNamespaces, rbacExec,
		rbacAdminBinding, rbacAnonymous, rbacEverybody, rbacSystemGroup, rbacDefaultAccount, rbacUnresolved,
		defaultDenyIngress, defaultDenyEgress, allowAll, worldCIDR, selectsNothing,
		serviceExposed, serviceExternalIPs,
		meshHeader, meshMTLS,
		ingressTLS, ingressSnippet, ingressWildcard, ingressPlain,
		namespaceUnlabelled, namespacePrivileged, namespaceUnpinned, namespaceDefault,
		secretInEnv, secretInArgs, secretInConfigMap, secretCommitted, secretAsEnv,
		unknownField,
		apiVersions,
		driftMissing, driftChanged, driftUndeclaredPolicy, driftUndeclaredBinding, driftUndeclaredWorkload,
	}
}

// Lookup gives a check by its ID.
func Lookup(id string) (*Check, bool) {
	all := All()
	i := slices.IndexFunc(all, func(c *Check) bool { return c.ID == id })
	if i < 0 {
		return nil, false
	}
	return all[i], true
}

// Known gives an error for the first ID that no check has, with the nearest that one has.
func Known(ids ...string) error {
	all := All()
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.ID
	}
	for _, id := range ids {
		if !slices.Contains(names, id) {
			hint := source.DidYouMean(id, names)
			if hint == "" {
				hint = "see bulwark validate --list-checks"
			}
			return fmt.Errorf("there is no check %q; %s", id, hint)
		}
	}
	return nil
}

// Exceptions gives the exceptions of a spec, or of a file, in the form that Options wants.
func Exceptions(list []*spec.Exception) []finding.Exception {
	var out []finding.Exception
	for _, e := range list {
		out = append(out, finding.Exception{
			Finding: e.Finding, On: e.On, Owner: e.Owner, Reason: e.Reason, Expires: e.Expires, File: e.At.File, Line: e.At.Line,
		})
	}
	return out
}
