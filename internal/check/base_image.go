package check

import (
	"strings"
	"time"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/spec"
)

// An image out of support gets no fixes: each hole that is found in it from then on stays. The dates are data, and the
// clock is the caller's.
var baseImage = &Check{
	ID: "base-image-out-of-support", Title: "Image is out of support", Severity: finding.High, Layer: artifact.SupplyChain,
	Rationale: "Nobody mends an image whose distribution or language runtime is past its end of support. Vulnerabilities found since then are public and stay open.",
	Fix:       "Move to a supported release.",
	Standards: []string{"NIST SA-22", "NIST SI-2", "OWASP K8s K02"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		s, ok := supportOf(c.Image)
		switch {
		case !ok:
			j.Skip() // an application; what it is built on is for a scanner to say
		case !j.Day.Before(s.until):
			j.Fail(c.Path+".image", "image "+c.Image+": "+s.ended())
		}
	},
	Snapshot: func(j *Judge) {
		if j.Platform == nil {
			return
		}
		for _, name := range spec.Sorted(j.Platform.Spec.Components) {
			c := j.Platform.Spec.Components[name]
			if c.Base == "" {
				continue
			}
			j.SubjectSpec(c.At, finding.Object{APIVersion: spec.APIVersion, Kind: "Component", Namespace: c.Namespace, Name: name})
			at := "spec.components." + name + ".base"
			if s, ok := supportOf(c.Base); !ok {
				j.Unknown(at, "base image "+c.Base+": no end of support is known for it")
			} else if !j.Day.Before(s.until) {
				j.Fail(at, "base image "+c.Base+": "+s.ended())
			}
		}
	},
}

type support struct {
	name    string
	until   time.Time
	instead string
}

func (s support) ended() string {
	m := s.name + " has been out of support since " + s.until.Format(time.DateOnly)
	if s.instead != "" {
		m += "; use " + s.instead
	}
	return m
}

// supportOf tells the support of a well-known public image. A copy in another registry counts when its last path element
// is the same. Of several reasons the earliest end counts: Node 18 on Debian 12 ends with Node 18.
func supportOf(ref string) (support, bool) {
	im := parseImage(ref)
	base := im.Path[strings.LastIndexByte(im.Path, '/')+1:]
	var best support
	for i := range endsOfSupport {
		e := &endsOfSupport[i]
		var hit bool
		switch {
		case e.inName != "":
			hit = hasWord(base, e.inName)
		case e.image == base:
			hit = im.Tag == e.tag || len(im.Tag) > len(e.tag) && strings.HasPrefix(im.Tag, e.tag) && !isDigit(im.Tag[len(e.tag)])
		case e.codename != "":
			hit = hasWord(im.Tag, e.codename)
		}
		if !hit {
			continue
		}
		if until := day(e.until); best.name == "" || until.Before(best.until) {
			best = support{e.name, until, e.instead}
		}
	}
	return best, best.name != ""
}

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic("check: bad date in the support table: " + s) // a test loads every row
	}
	return t
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// hasWord reports whether a dash-separated part of s is the word.
func hasWord(s, word string) bool {
	for s != "" {
		var part string
		part, s, _ = strings.Cut(s, "-")
		if part == word {
			return true
		}
	}
	return false
}

// endsOfSupport lists ends of support as their projects publish them: the first day without. Distroless images carry the
// release in their names, official images in their tags.
var endsOfSupport = [...]struct {
	name string
	// image and tag name an official image and the beginning of its tag; inName a word of the image's own name; codename
	// a word of the tag of any image.
	image, tag, inName, codename string
	until, instead               string
}{
	// nodejs/Release, schedule.json
	{name: "Node.js 14", image: "node", tag: "14", until: "2023-04-30", instead: "node 24"},
	{name: "Node.js 16", image: "node", tag: "16", until: "2023-09-11", instead: "node 24"},
	{name: "Node.js 18", image: "node", tag: "18", until: "2025-04-30", instead: "node 24"},
	{name: "Node.js 19", image: "node", tag: "19", until: "2023-06-01", instead: "node 24"},
	{name: "Node.js 20", image: "node", tag: "20", until: "2026-04-30", instead: "node 24"},
	{name: "Node.js 21", image: "node", tag: "21", until: "2024-06-01", instead: "node 24"},
	{name: "Node.js 22", image: "node", tag: "22", until: "2027-04-30", instead: "node 24"},
	{name: "Node.js 23", image: "node", tag: "23", until: "2025-06-01", instead: "node 24"},
	{name: "Node.js 24", image: "node", tag: "24", until: "2028-04-30"},
	{name: "Node.js 16", inName: "nodejs16", until: "2023-09-11", instead: "gcr.io/distroless/nodejs24-debian13"},
	{name: "Node.js 18", inName: "nodejs18", until: "2025-04-30", instead: "gcr.io/distroless/nodejs24-debian13"},
	{name: "Node.js 20", inName: "nodejs20", until: "2026-04-30", instead: "gcr.io/distroless/nodejs24-debian13"},
	{name: "Node.js 22", inName: "nodejs22", until: "2027-04-30", instead: "gcr.io/distroless/nodejs24-debian13"},
	{name: "Node.js 24", inName: "nodejs24", until: "2028-04-30"},
	// GoogleContainerTools/distroless, SUPPORT_POLICY.md
	{name: "distroless on Debian 11", inName: "debian11", until: "2024-07-01", instead: "the debian13 images"},
	{name: "distroless on Debian 12", inName: "debian12", until: "2026-10-01", instead: "the debian13 images"},
	{name: "Debian 13", inName: "debian13", until: "2028-08-09"},
	// devguide.python.org/versions
	{name: "Python 2.7", image: "python", tag: "2.7", until: "2020-01-01", instead: "python 3.13"},
	{name: "Python 3.6", image: "python", tag: "3.6", until: "2021-12-23", instead: "python 3.13"},
	{name: "Python 3.7", image: "python", tag: "3.7", until: "2023-06-27", instead: "python 3.13"},
	{name: "Python 3.8", image: "python", tag: "3.8", until: "2024-10-07", instead: "python 3.13"},
	{name: "Python 3.9", image: "python", tag: "3.9", until: "2025-10-31", instead: "python 3.13"},
	{name: "Python 3.10", image: "python", tag: "3.10", until: "2026-10-31", instead: "python 3.13"},
	{name: "Python 3.11", image: "python", tag: "3.11", until: "2027-10-31", instead: "python 3.13"},
	{name: "Python 3.12", image: "python", tag: "3.12", until: "2028-10-31"},
	{name: "Python 3.13", image: "python", tag: "3.13", until: "2029-10-31"},
	// ruby-lang.org/en/downloads/branches, php.net/supported-versions.php, endoflife pages of .NET and PostgreSQL
	{name: "Ruby 2.7", image: "ruby", tag: "2.7", until: "2023-03-31", instead: "ruby 3.4"},
	{name: "Ruby 3.0", image: "ruby", tag: "3.0", until: "2024-04-23", instead: "ruby 3.4"},
	{name: "Ruby 3.1", image: "ruby", tag: "3.1", until: "2025-03-26", instead: "ruby 3.4"},
	{name: "PHP 7.4", image: "php", tag: "7.4", until: "2022-11-28", instead: "php 8.4"},
	{name: "PHP 8.0", image: "php", tag: "8.0", until: "2023-11-26", instead: "php 8.4"},
	{name: "PHP 8.1", image: "php", tag: "8.1", until: "2025-12-31", instead: "php 8.4"},
	{name: "PostgreSQL 10", image: "postgres", tag: "10", until: "2022-11-10", instead: "postgres 17"},
	{name: "PostgreSQL 11", image: "postgres", tag: "11", until: "2023-11-09", instead: "postgres 17"},
	{name: "PostgreSQL 12", image: "postgres", tag: "12", until: "2024-11-21", instead: "postgres 17"},
	{name: "PostgreSQL 13", image: "postgres", tag: "13", until: "2025-11-13", instead: "postgres 17"},
	{name: "PostgreSQL 14", image: "postgres", tag: "14", until: "2026-11-12", instead: "postgres 17"},
	{name: "PostgreSQL 15", image: "postgres", tag: "15", until: "2027-11-11", instead: "postgres 17"},
	{name: "PostgreSQL 16", image: "postgres", tag: "16", until: "2028-11-09"},
	{name: "MySQL 5.7", image: "mysql", tag: "5.7", until: "2023-10-31", instead: "mysql 8.4"},
	// distributions
	{name: "Alpine 3.16", image: "alpine", tag: "3.16", until: "2024-05-23", instead: "alpine 3.22"},
	{name: "Alpine 3.17", image: "alpine", tag: "3.17", until: "2024-11-22", instead: "alpine 3.22"},
	{name: "Alpine 3.18", image: "alpine", tag: "3.18", until: "2025-05-09", instead: "alpine 3.22"},
	{name: "Alpine 3.19", image: "alpine", tag: "3.19", until: "2025-11-01", instead: "alpine 3.22"},
	{name: "Alpine 3.20", image: "alpine", tag: "3.20", until: "2026-04-01", instead: "alpine 3.22"},
	{name: "Alpine 3.21", image: "alpine", tag: "3.21", until: "2026-11-01", instead: "alpine 3.22"},
	{name: "Alpine 3.22", image: "alpine", tag: "3.22", until: "2027-05-01"},
	{name: "Debian 10", image: "debian", tag: "10", until: "2024-07-01", instead: "debian 13"},
	{name: "Debian 11", image: "debian", tag: "11", until: "2026-09-01", instead: "debian 13"},
	{name: "Debian 12", image: "debian", tag: "12", until: "2028-07-01"},
	{name: "Debian 8", codename: "jessie", until: "2020-07-01", instead: "trixie"},
	{name: "Debian 9", codename: "stretch", until: "2022-07-01", instead: "trixie"},
	{name: "Debian 10", codename: "buster", until: "2024-07-01", instead: "trixie"},
	{name: "Debian 11", codename: "bullseye", until: "2026-09-01", instead: "trixie"},
	{name: "Debian 12", codename: "bookworm", until: "2028-07-01"},
	{name: "Ubuntu 16.04", image: "ubuntu", tag: "16.04", until: "2021-05-01", instead: "ubuntu 24.04"},
	{name: "Ubuntu 18.04", image: "ubuntu", tag: "18.04", until: "2023-06-01", instead: "ubuntu 24.04"},
	{name: "Ubuntu 20.04", image: "ubuntu", tag: "20.04", until: "2025-06-01", instead: "ubuntu 24.04"},
	{name: "Ubuntu 22.04", image: "ubuntu", tag: "22.04", until: "2027-06-01", instead: "ubuntu 24.04"},
	{name: "Ubuntu 24.04", image: "ubuntu", tag: "24.04", until: "2029-06-01"},
	{name: "CentOS 6", image: "centos", tag: "6", until: "2020-12-01", instead: "a maintained distribution"},
	{name: "CentOS 7", image: "centos", tag: "7", until: "2024-07-01", instead: "a maintained distribution"},
	{name: "CentOS 8", image: "centos", tag: "8", until: "2022-01-01", instead: "a maintained distribution"},
}
