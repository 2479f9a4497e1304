package check

import (
	"strconv"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The restricted standard lists the volume types that may be used; the node's own network and disks are behind the rest.
var volumeTypes = &Check{
	ID: "volume-type-restricted", Title: "Volume of a type that bypasses storage classes", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "In-tree network and cloud volumes are mounted by the node, with the node's credentials and from an address that the pod's author picks; gitRepo runs git as root on the node; flexVolume runs a program there.",
	Fix:       "Use a PersistentVolumeClaim or a CSI volume: an administrator then decides what may be mounted.",
	Standards: []string{"PSS restricted", "NIST AC-6", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		for i := range w.Spec.Volumes {
			v := &w.Spec.Volumes[i]
			switch {
			case v.HostPath != nil: // the host-path checks say it, and how bad it is
			case v.ConfigMap != nil, v.CSI != nil, v.DownwardAPI != nil, v.EmptyDir != nil, v.Ephemeral != nil, v.Image != nil,
				v.PersistentVolumeClaim != nil, v.Projected != nil, v.Secret != nil:
			default:
				kind := "of an unknown type"
				switch {
				case v.GitRepo != nil:
					kind = "gitRepo"
				case v.FlexVolume != nil:
					kind = "flexVolume"
				case v.NFS != nil:
					kind = "nfs"
				case v.ISCSI != nil:
					kind = "iscsi"
				case v.CephFS != nil, v.RBD != nil:
					kind = "cephfs or rbd"
				case v.GCEPersistentDisk != nil, v.AWSElasticBlockStore != nil, v.AzureDisk != nil, v.AzureFile != nil, v.Cinder != nil, v.VsphereVolume != nil:
					kind = "an in-tree cloud disk"
				}
				at := w.SpecPath + ".volumes[" + strconv.Itoa(i) + "]"
				if v.GitRepo != nil || v.FlexVolume != nil {
					j.FailAs(finding.High, at, "volume "+v.Name+" is "+kind)
				} else {
					j.Fail(at, "volume "+v.Name+" is "+kind)
				}
			}
		}
	},
}
