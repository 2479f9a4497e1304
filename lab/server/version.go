package server

import (
	apimachineryversion "k8s.io/apimachinery/pkg/version"
	basecompatibility "k8s.io/component-base/compatibility"
)

// KubernetesVersion is what the server reports at /version. It is the version of
// k8s.io/kubernetes in go.mod; a test holds the two together.
const KubernetesVersion = "v1.37.2"

// effectiveVersion reports KubernetesVersion.
//
// Kubernetes takes its version from variables that its release builds set with
// the linker; without them /version says v0.0.0-master, and clients that gate
// features by version go wrong. version.SetDynamicVersion cannot help, since it
// refuses any other major, minor or patch than the linker's.
type effectiveVersion struct {
	basecompatibility.MutableEffectiveVersion
}

// newEffectiveVersion emulates nothing older than the binary itself. The floors
// are three minors back, as in k8s.io/apiserver/pkg/util/compatibility.
func newEffectiveVersion() effectiveVersion {
	return effectiveVersion{basecompatibility.NewEffectiveVersionFromString(KubernetesVersion, "1.34", "1.34")}
}

// Info implements basecompatibility.EffectiveVersion; /version serves it.
func (v effectiveVersion) Info() *apimachineryversion.Info {
	info := v.MutableEffectiveVersion.Info()
	info.GitVersion = KubernetesVersion
	return info
}
