package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/image"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

type lockOptions struct {
	file    string
	given   []string
	check   bool
	timeout time.Duration
	output  string
	quiet   bool
}

func newLockCommand(app *App) *cobra.Command {
	var o lockOptions
	c := &cobra.Command{
		Use:   "lock",
		Short: "Resolve the images of the spec to digests and write platform.lock",
		Long: `Asks the registries for the digest of each component's image (with its version) and base image, and writes them to
platform.lock beside the spec. What no registry answers for is written there as unresolved, with the reason, and is not
locked: nothing is invented. A digest that was resolved before and that the registry no longer confirms is kept and
called stale. One that you gave with --image is kept until the registry answers for that tag.

Credentials are those of docker login. Exit codes: 0 every image has a digest, from its registry or from you; 1 with
--check: a tag has moved, or the lock is not that of the spec; 2 bad input; 3 some image is unresolved or stale.`,
		Example: `  bulwark lock
  bulwark lock --check            # in CI: has a tag moved since?
  bulwark lock --image ghcr.io/shop/web=sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runLock(c.Context(), app, &o) },
	}
	platformFlag(c, &o.file)
	c.Flags().StringArrayVar(&o.given, "image", nil, "take this `IMAGE=DIGEST` instead of asking; the lock says that no registry confirmed it")
	c.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 1 when the lock is not what the registries say")
	c.Flags().DurationVar(&o.timeout, "timeout", 20*time.Second, "how long to wait for one image")
	c.Flags().StringVarP(&o.output, "output", "o", "table", "table or json")
	c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but what went wrong")
	return c
}

func runLock(ctx context.Context, app *App, o *lockOptions) error {
	if o.output != "table" && o.output != "json" {
		return Misuse(fmt.Errorf("unknown --output %q; one of: table, json", o.output))
	}
	file, err := findPlatform(o.file)
	if err != nil {
		return err
	}
	p, err := spec.Load(file)
	if err != nil {
		return Misuse(badSpec(err))
	}
	old, err := spec.LoadLock(lockFile(file))
	if err != nil {
		return Misuse(badSpec(err))
	}
	wanted := p.Images()
	given, err := givenDigests(o.given, wanted)
	if err != nil {
		return Misuse(err)
	}
	lock := resolveLock(ctx, app, p, old, wanted, given, o)
	if ctx.Err() != nil {
		// What was not asked would look unresolved, so nothing of this run may be written.
		return &ExitError{Code: ExitUnknown, Err: fmt.Errorf("interrupted; %s is as it was", lockFile(file))}
	}
	r := lockResult{Version: "v1", File: lockFile(file), State: "unchanged", Images: lock.Images, Unresolved: lock.Unresolved, Changes: lockChanges(old, lock)}
	switch after := lock.YAML(); {
	case o.check && len(r.Changes) > 0:
		r.State = "differs"
	case !o.check && (old == nil || !bytes.Equal(old.YAML(), after)):
		if err := replaceFile(r.File, after); err != nil {
			return Misuse(err)
		}
		r.State = "written"
	}
	switch {
	case o.output == "json":
		if err := printJSON(app.Out, r); err != nil {
			return Misuse(err)
		}
	case !o.quiet:
		r.print(app.Out)
	}
	switch {
	case r.State == "differs":
		return Exit(ExitFindings)
	case r.stale()+len(r.Unresolved) > 0:
		return Exit(ExitUnknown)
	}
	return nil
}

// lockResult is the JSON of `bulwark lock -o json`, version v1.
type lockResult struct {
	Version string `json:"version"`
	File    string `json:"file"`
	// State is "written" or "unchanged"; with --check "unchanged" or "differs".
	State      string             `json:"state"`
	Images     []spec.LockedImage `json:"images"`
	Unresolved []spec.Unresolved  `json:"unresolved"`
	// Changes say what the former lock had otherwise.
	Changes []lockChange `json:"changes"`
}

// lockChange is one image of which two locks say something else. An empty digest means that the lock had none.
type lockChange struct {
	Image string `json:"image"`
	Was   string `json:"was"`
	Is    string `json:"is"`
	Why   string `json:"why"`
}

// lockChanges compares what two locks lock. That a registry did not answer this time changes nothing, so that an outage
// is never reported as a tag that moved.
func lockChanges(old, lock *spec.Lock) []lockChange {
	out := []lockChange{}
	before := map[string]spec.LockedImage{}
	known := map[string]bool{}
	if old != nil {
		for _, x := range old.Images {
			before[x.Image], known[x.Image] = x, true
		}
		for _, x := range old.Unresolved {
			known[x.Image] = true
		}
	}
	for _, x := range lock.Images {
		was, ok := before[x.Image]
		switch {
		case !ok:
			out = append(out, lockChange{x.Image, "", x.Digest, "the lock had no digest of it"})
		case was.Reference != x.Reference:
			out = append(out, lockChange{x.Image, was.Digest, x.Digest, "the spec asked for " + orNothing(was.Reference) + " before"})
		case was.Digest != x.Digest:
			out = append(out, lockChange{x.Image, was.Digest, x.Digest, "the tag has moved"})
		}
		delete(before, x.Image)
		delete(known, x.Image)
	}
	for _, x := range lock.Unresolved {
		if was, ok := before[x.Image]; ok {
			out = append(out, lockChange{x.Image, was.Digest, "", "the spec asked for " + orNothing(was.Reference) + " before"})
		} else if !known[x.Image] {
			out = append(out, lockChange{Image: x.Image, Why: "the lock did not know it"})
		}
		delete(before, x.Image)
		delete(known, x.Image)
	}
	for _, image := range spec.Sorted(known) {
		out = append(out, lockChange{image, before[image].Digest, "", "the spec no longer names it"})
	}
	return out
}

func orNothing(reference string) string { return cmp.Or(reference, "no version") }

func (r *lockResult) stale() int {
	n := 0
	for _, x := range r.Images {
		if x.Stale != "" {
			n++
		}
	}
	return n
}

func (r *lockResult) print(w io.Writer) {
	given := 0
	for _, x := range r.Images {
		state, note := "locked", strings.Join(x.Platforms, ", ")
		if x.Given {
			state, note = "given", "no registry has confirmed it"
			given++
		}
		if x.Stale != "" {
			state, note = "stale", x.Stale
		}
		fmt.Fprintf(w, "%-10s %s  %s", state, cmp.Or(x.Reference, x.Image), x.Digest)
		if note != "" {
			fmt.Fprintf(w, "  %s", note)
		}
		fmt.Fprintln(w)
	}
	for _, x := range r.Unresolved {
		fmt.Fprintf(w, "%-10s %s  %s\n", "unresolved", cmp.Or(x.Reference, x.Image), x.Reason)
	}
	for _, x := range r.Changes {
		if x.Was != "" || r.State == "differs" {
			fmt.Fprintf(w, "%-10s %s  %s: %s, now %s\n", "changed", x.Image, x.Why, cmp.Or(x.Was, "no digest"), cmp.Or(x.Is, "no digest"))
		}
	}
	fmt.Fprintf(w, "%s: %d locked, %d given, %d stale, %d unresolved · %s\n", r.File, len(r.Images)-r.stale()-given, given, r.stale(), len(r.Unresolved), r.State)
}

// givenDigests reads --image, which must name images of the spec.
func givenDigests(args []string, wanted []spec.Wanted) (map[string]string, error) {
	out := map[string]string{}
	var names []string
	for _, w := range wanted {
		names = append(names, w.Image)
	}
	for _, a := range args {
		img, digest, ok := strings.Cut(a, "=")
		if !ok || !spec.ValidDigest(digest) {
			return nil, fmt.Errorf("--image %q: write IMAGE=sha256: and 64 hexadecimal digits", a)
		}
		if !slices.Contains(names, img) {
			hint := ""
			if near := source.DidYouMean(img, names); near != "" {
				hint = "; " + near
			}
			return nil, fmt.Errorf("--image: the spec names no image %q%s", img, hint)
		}
		if was, twice := out[img]; twice && was != digest {
			return nil, fmt.Errorf("--image: two digests for %q", img)
		}
		out[img] = digest
	}
	return out, nil
}

func resolveLock(ctx context.Context, app *App, p *spec.Platform, old *spec.Lock, wanted []spec.Wanted, given map[string]string, o *lockOptions) *spec.Lock {
	lock := &spec.Lock{Version: spec.LockVersion, Platform: p.Metadata.Name, Images: []spec.LockedImage{}, Unresolved: []spec.Unresolved{}}
	var ask []spec.Wanted
	var references []string
	for _, w := range wanted {
		was := lockedBefore(old, w)
		switch digest, ok := given[w.Image]; {
		case ok:
			lock.Images = append(lock.Images, spec.LockedImage{Image: w.Image, Reference: w.Reference, Digest: digest, Given: true})
		case w.Reference == "" && was != nil && was.Given:
			lock.Images = append(lock.Images, *was)
		case w.Reference == "":
			lock.Unresolved = append(lock.Unresolved, spec.Unresolved{Image: w.Image, Reason: "the spec gives no version of it"})
		default:
			ask, references = append(ask, w), append(references, w.Reference)
		}
	}
	progress, done := progressBar(app, o.quiet, "images")
	defer done()
	r := &image.Resolver{Timeout: o.timeout}
	for i, answer := range r.ResolveAll(ctx, references, progress) {
		w := ask[i]
		was := lockedBefore(old, w)
		switch {
		case answer.Err == nil:
			lock.Images = append(lock.Images, spec.LockedImage{Image: w.Image, Reference: w.Reference, Digest: answer.Digest, Platforms: answer.Platforms})
		case was != nil:
			if !was.Given {
				was.Stale = answer.Err.Error()
			}
			lock.Images = append(lock.Images, *was)
		default:
			lock.Unresolved = append(lock.Unresolved, spec.Unresolved{Image: w.Image, Reference: w.Reference, Reason: answer.Err.Error()})
		}
	}
	slices.SortFunc(lock.Images, func(a, b spec.LockedImage) int { return cmp.Compare(a.Image, b.Image) })
	slices.SortFunc(lock.Unresolved, func(a, b spec.Unresolved) int { return cmp.Compare(a.Image, b.Image) })
	return lock
}

// lockedBefore gives a copy of what the former lock says of an image, if that was about the same tag.
func lockedBefore(old *spec.Lock, w spec.Wanted) *spec.LockedImage {
	if old == nil {
		return nil
	}
	for _, x := range old.Images {
		if x.Image == w.Image && x.Reference == w.Reference {
			return &x
		}
	}
	return nil
}
