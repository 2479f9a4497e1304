package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// LockVersion is the version of the lock file that this package reads and writes.
const LockVersion = "v1"

// Lock is platform.lock: which digest each image of the spec is, by a registry's own answer.
type Lock struct {
	At      source.Pos `json:"-"`
	Version string     `json:"version"`
	// Platform is the name of the spec's platform.
	Platform string        `json:"platform"`
	Images   []LockedImage `json:"images"`
	// Unresolved are the images of the spec that have no digest here.
	Unresolved []Unresolved `json:"unresolved"`
}

// LockedImage is one image with its digest.
type LockedImage struct {
	At source.Pos `json:"-"`
	// Image is the text in the spec: a component's image, or its base.
	Image string `json:"image"`
	// Reference is what was asked of the registry: the image with its tag.
	Reference string `json:"reference,omitempty"`
	// Digest is that of the index, where the image has one for several platforms, else of the manifest.
	Digest string `json:"digest"`
	// Platforms are "os/arch" or "os/arch/variant", as the registry's index or the image's config says.
	Platforms []string `json:"platforms,omitempty"`
	// Given is true for a digest that a person gave with --image, and that no registry has confirmed. It has no Reference
	// when the spec gives no version.
	Given bool `json:"given,omitempty"`
	// Stale says why the registry did not confirm the digest when the lock was last written. The digest is still the one
	// that was resolved before: content has one digest for ever, whatever became of the tag.
	Stale string `json:"stale,omitempty"`
}

// Unresolved is an image without a digest.
type Unresolved struct {
	At        source.Pos `json:"-"`
	Image     string     `json:"image"`
	Reference string     `json:"reference,omitempty"`
	Reason    string     `json:"reason"`
}

// Wanted is an image that the spec names and that a lock should know.
type Wanted struct {
	// Image is the text in the spec; Reference adds the tag to resolve, and is empty when the spec gives none.
	Image, Reference string
	// For names who wants it, such as "component/maestro base".
	For []string
	At  source.Pos
}

// Images lists the images that the spec names, each once, in order of their text.
func (p *Platform) Images() []Wanted {
	byImage := map[string]*Wanted{}
	add := func(image, reference, by string, at source.Pos) {
		if image == "" {
			return
		}
		w := byImage[image]
		if w == nil {
			w = &Wanted{Image: image, Reference: reference, At: at}
			byImage[image] = w
		}
		w.For = append(w.For, by)
	}
	for _, name := range Sorted(p.Spec.Components) {
		c := p.Spec.Components[name]
		path := join("spec.components", name)
		reference := ""
		if c.Version != "" {
			reference = c.Image + ":" + c.Version
		}
		add(c.Image, reference, "component/"+name+" image", p.Where(path+".image"))
		add(c.Base, c.Base, "component/"+name+" base", p.Where(path+".base"))
	}
	out := make([]Wanted, 0, len(byImage))
	for _, image := range Sorted(byImage) {
		out = append(out, *byImage[image])
	}
	return out
}

// Digest gives the digest of an image as the spec writes it. It may be called on a nil Lock.
func (l *Lock) Digest(image string) (digest string, ok bool) {
	if l == nil {
		return "", false
	}
	for _, x := range l.Images {
		if x.Image == image {
			return x.Digest, true
		}
	}
	return "", false
}

// Reason says why an image has no digest. It may be called on a nil Lock.
func (l *Lock) Reason(image string) string {
	if l == nil {
		return "there is no platform.lock; run `bulwark lock`"
	}
	for _, x := range l.Unresolved {
		if x.Image == image {
			return x.Reason
		}
	}
	return "platform.lock does not know it; run `bulwark lock`"
}

// For gives the lock as it holds for a spec: an entry whose reference is no longer what the spec asks for is not used,
// so that a new version never runs with the digest of the old one. It may be called on a nil Lock, and gives nil then.
func (l *Lock) For(p *Platform) *Lock {
	if l == nil {
		return nil
	}
	out := &Lock{At: l.At, Version: l.Version, Platform: p.Metadata.Name}
	for _, w := range p.Images() {
		i := slices.IndexFunc(l.Images, func(x LockedImage) bool { return x.Image == w.Image })
		switch {
		case i < 0:
			out.Unresolved = append(out.Unresolved, Unresolved{Image: w.Image, Reference: w.Reference, Reason: l.Reason(w.Image)})
		case l.Images[i].Reference != w.Reference:
			out.Unresolved = append(out.Unresolved, Unresolved{Image: w.Image, Reference: w.Reference,
				Reason: fmt.Sprintf("platform.lock has the digest of %s; run `bulwark lock`", cmp.Or(l.Images[i].Reference, "an image without version"))})
		default:
			out.Images = append(out.Images, l.Images[i])
		}
	}
	return out
}

// maxLockSize is the largest lock file that LoadLock reads, in bytes.
const maxLockSize = 4 << 20

// LoadLock reads a lock file strictly. A file that does not exist gives nil and no error: a platform may have no lock
// yet, and then nothing is locked.
func LoadLock(file string) (*Lock, error) {
	data, err := read(file, maxLockSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return ParseLock(file, data)
}

// ParseLock reads a lock strictly; file is its name for messages. The error is a source.Errors.
func ParseLock(file string, data []byte) (*Lock, error) {
	lim := source.DefaultLimits
	lim.Document = maxLockSize
	docs := source.Split(file, data)
	if len(docs) != 1 {
		return nil, source.Errors{{Pos: source.Pos{File: file, Line: 1}, Msg: fmt.Sprintf("a lock file holds one document, this one holds %d", len(docs)), Hint: "write it anew with `bulwark lock`"}}
	}
	root, err := docs[0].Parse(lim)
	if err != nil {
		var e *source.Error
		if errors.As(err, &e) {
			return nil, source.Errors{e}
		}
		return nil, err
	}
	var l Lock
	errs := source.Decode(file, root, &l)
	add := func(at source.Pos, hint, format string, args ...any) {
		if at.IsZero() {
			at = source.NodePos(file, root)
		}
		errs = append(errs, &source.Error{Pos: at, Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
	const rewrite = "write it anew with `bulwark lock`"
	if l.Version != LockVersion {
		add(l.At, rewrite, "version is %s; this version of Bulwark reads %s", quote(l.Version), LockVersion)
	}
	seen := map[string]bool{}
	name := func(at source.Pos, image string) {
		if image == "" {
			add(at, rewrite, "an entry without an image")
		} else if seen[image] {
			add(at, "remove one of the two", "image %s is listed twice", quote(image))
		}
		seen[image] = true
	}
	for _, x := range l.Images {
		name(x.At, x.Image)
		if !digestPattern.MatchString(x.Digest) {
			add(x.At, "a digest is sha256: and 64 hexadecimal digits", "image %s has the digest %s", quote(x.Image), quote(x.Digest))
		}
	}
	for _, x := range l.Unresolved {
		name(x.At, x.Image)
		if x.Reason == "" {
			add(x.At, rewrite, "image %s is unresolved for no reason", quote(x.Image))
		}
	}
	if len(errs) > 0 {
		return nil, sorted(errs)
	}
	return &l, nil
}

// ValidDigest reports whether a text is a digest as a lock holds it.
func ValidDigest(s string) bool { return digestPattern.MatchString(s) }

const lockHeader = `# Written by ` + "`bulwark lock`" + `; do not edit. Digests are what a registry answered for the tag that the spec names; what no
# registry answered for stands under unresolved, with the reason, and is not locked.
`

// YAML gives the lock's bytes: the same lock, the same bytes.
func (l *Lock) YAML() []byte {
	var b strings.Builder
	b.WriteString(lockHeader)
	text := func(indent, key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, key, scalar(value))
		}
	}
	text("", "version", cmp.Or(l.Version, LockVersion))
	text("", "platform", l.Platform)
	images := slices.SortedFunc(slices.Values(l.Images), func(a, b LockedImage) int { return cmp.Compare(a.Image, b.Image) })
	if len(images) == 0 {
		b.WriteString("images: []\n")
	} else {
		b.WriteString("images:\n")
	}
	for _, x := range images {
		text("  - ", "image", x.Image)
		text("    ", "reference", x.Reference)
		text("    ", "digest", x.Digest)
		if len(x.Platforms) > 0 {
			b.WriteString("    platforms:\n")
			for _, y := range slices.Sorted(slices.Values(x.Platforms)) {
				fmt.Fprintf(&b, "      - %s\n", scalar(y))
			}
		}
		if x.Given {
			b.WriteString("    given: true\n")
		}
		text("    ", "stale", x.Stale)
	}
	unresolved := slices.SortedFunc(slices.Values(l.Unresolved), func(a, b Unresolved) int { return cmp.Compare(a.Image, b.Image) })
	if len(unresolved) == 0 {
		b.WriteString("unresolved: []\n")
	} else {
		b.WriteString("unresolved:\n")
	}
	for _, x := range unresolved {
		text("  - ", "image", x.Image)
		text("    ", "reference", x.Reference)
		text("    ", "reason", x.Reason)
	}
	return []byte(b.String())
}

// scalar gives a text as YAML on one line, quoted where it must be.
func scalar(s string) string {
	b, err := yaml.Marshal(s)
	if out := strings.TrimSuffix(string(b), "\n"); err == nil && !strings.Contains(out, "\n") {
		return out
	}
	return fmt.Sprintf("%q", s)
}
