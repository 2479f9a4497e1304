package check

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// image is an image reference taken apart as the runtimes do (github.com/distribution/reference, normalize.go).
type image struct {
	// Host is "" when the reference names none; runtimes then take docker.io.
	Host string
	// Path has neither host, tag nor digest: "library/ubuntu" is written "ubuntu" where the user did.
	Path   string
	Tag    string
	Digest string
}

func parseImage(ref string) image {
	var im image
	ref, im.Digest, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref, im.Tag = ref[:i], ref[i+1:]
	}
	if first, rest, ok := strings.Cut(ref, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		im.Host, ref = first, rest
	}
	im.Path = ref
	return im
}

// Full gives "host/path" with what runtimes add.
func (im image) Full() string {
	host, p := im.Host, im.Path
	if host == "" || host == "index.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(p, "/") {
		p = "library/" + p
	}
	return host + "/" + p
}

// An image reference is a promise of what will run. Each of these checks is one way in which it promises nothing.

var imageTag = &Check{
	ID: "image-tag-latest", Title: "Image without a version", Severity: finding.Medium, Layer: artifact.SupplyChain,
	Rationale: "latest, or no tag, is whatever was pushed last: nobody can say what runs, what was scanned, or what to go back to.",
	Fix:       "Name the image by digest, with a version tag beside it in a comment or in the lock file.",
	Standards: []string{"CIS 5.5.1", "NIST CM-2", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		im := parseImage(c.Image)
		switch {
		case c.Image == "":
			j.Unknown(c.Path+".image", "no image is named; something fills it in later")
		case im.Digest != "":
		case im.Tag == "":
			j.Fail(c.Path+".image", "image "+c.Image+" has no tag, so latest")
		case im.Tag == "latest":
			j.Fail(c.Path+".image", "image "+c.Image)
		}
	},
}

var imageDigest = &Check{
	ID: "image-digest-missing", Title: "Image is not pinned by digest", Severity: finding.Low, Layer: artifact.SupplyChain,
	Rationale: "Whoever can push to the registry can move a tag. Only a digest says which bytes run, and only a digest can be verified against a signature once and stay verified.",
	Fix:       "Write image@sha256:…; `bulwark lock` resolves digests into platform.lock.",
	Standards: []string{"CIS 5.5.1", "NIST SI-7", "NIST CM-14", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		im := parseImage(c.Image)
		switch {
		case c.Image == "":
			j.Skip() // image-tag-latest says it
		case im.Digest == "":
			j.Fail(c.Path+".image", "image "+c.Image+" has no digest")
		case !strings.HasPrefix(im.Digest, "sha256:") && !strings.HasPrefix(im.Digest, "sha512:") || len(im.Digest) < len("sha256:")+64:
			j.Fail(c.Path+".image", "image "+c.Image+" has a digest that is none")
		}
	},
}

var imageTagAndDigest = &Check{
	ID: "image-tag-and-digest", Title: "Image has a tag and a digest", Severity: finding.Low, Layer: artifact.SupplyChain,
	Rationale: "Runtimes ignore the tag when there is a digest. A person who reads or changes the tag believes that something else runs, and tools that read only the tag scan the wrong image.",
	Fix:       "Keep the digest and drop the tag.",
	Standards: []string{"NIST CM-2", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		im := parseImage(c.Image)
		switch {
		case im.Digest == "":
			j.Skip()
		case im.Tag != "":
			j.Fail(c.Path+".image", "tag "+im.Tag+" beside a digest is not what decides")
		}
	},
}

var imageRegistry = &Check{
	ID: "image-registry-missing", Title: "Image names no registry", Severity: finding.Low, Layer: artifact.SupplyChain,
	Rationale: "Without a host the node decides where the image comes from: docker.io, or whichever mirror or search list it has. The same manifest then runs different code on different nodes.",
	Fix:       "Write the registry's host in front of the image.",
	Standards: []string{"CIS 5.5.1", "NIST CM-7(5)", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		if c.Image == "" {
			j.Skip()
		} else if im := parseImage(c.Image); im.Host == "" {
			j.Fail(c.Path+".image", "image "+c.Image+" names no registry, so "+im.Full())
		}
	},
}

var imagePullPolicy = &Check{
	ID: "image-pull-policy", Title: "Image with a tag that is not pulled again", Severity: finding.Low, Layer: artifact.SupplyChain,
	Rationale: "With IfNotPresent or Never a pod may use an image that another pod's credentials brought to the node, or an old one behind a moved tag. A digest makes this harmless.",
	Fix:       "Name the image by digest, or set imagePullPolicy: Always.",
	Standards: []string{"CIS 5.5.1", "NIST SI-7", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		im := parseImage(c.Image)
		if c.Image == "" || im.Digest != "" {
			j.Skip()
			return
		}
		switch {
		case c.ImagePullPolicy == corev1.PullAlways:
		case c.ImagePullPolicy == "" && (im.Tag == "" || im.Tag == "latest"): // Always is the default then
		case c.ImagePullPolicy == "":
			j.Fail(c.Path+".imagePullPolicy", "imagePullPolicy is not set, and IfNotPresent is the default for tag "+im.Tag)
		default:
			j.Fail(c.Path+".imagePullPolicy", "imagePullPolicy: "+string(c.ImagePullPolicy)+" for tag "+im.Tag)
		}
	},
}
