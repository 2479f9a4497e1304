package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/image"
	"github.com/intelgraph/bulwark/internal/spec"
)

type lockOptions struct {
	file    string
	given   []string
	check   bool
	timeout time.Duration
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
called stale.

Credentials are those of docker login. Exit codes: 0 every image has a digest that its registry confirmed; 1 with
--check: the lock is not what the registries say; 2 bad input; 3 some image is unresolved or stale.`,
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
	c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but what went wrong")
	return c
}

func runLock(ctx context.Context, app *App, o *lockOptions) error {
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
	if err := ctx.Err(); err != nil {
		return Misuse(fmt.Errorf("interrupted; %s is as it was", lockFile(file)))
	}
	after := lock.YAML()
	var before []byte
	if old != nil {
		before = old.YAML()
	}
	moved := !bytes.Equal(before, after)
	if !o.check && moved {
		if err := replaceFile(lockFile(file), after); err != nil {
			return Misuse(err)
		}
	}
	stale := 0
	for _, x := range lock.Images {
		if x.Stale != "" {
			stale++
		}
	}
	if !o.quiet {
		for _, x := range lock.Images {
			state := "locked"
			if x.Given {
				state = "given"
			}
			if x.Stale != "" {
				state = "stale"
			}
			fmt.Fprintf(app.Out, "%-10s %s  %s", state, x.Image, x.Digest)
			if x.Stale != "" {
				fmt.Fprintf(app.Out, "  %s", x.Stale)
			}
			fmt.Fprintln(app.Out)
		}
		for _, x := range lock.Unresolved {
			fmt.Fprintf(app.Out, "%-10s %s  %s\n", "unresolved", x.Image, x.Reason)
		}
		what := "unchanged"
		switch {
		case moved && o.check:
			what = "differs"
		case moved:
			what = "written"
		}
		fmt.Fprintf(app.Out, "%s: %d locked, %d stale, %d unresolved · %s\n", lockFile(file), len(lock.Images)-stale, stale, len(lock.Unresolved), what)
	}
	switch {
	case o.check && moved:
		return Exit(ExitFindings)
	case stale+len(lock.Unresolved) > 0:
		return Exit(ExitUnknown)
	}
	return nil
}

// givenDigests reads --image, which must name images of the spec.
func givenDigests(args []string, wanted []spec.Wanted) (map[string]string, error) {
	out := map[string]string{}
	for _, a := range args {
		img, digest, ok := strings.Cut(a, "=")
		if !ok || !spec.ValidDigest(digest) {
			return nil, fmt.Errorf("--image %s: write IMAGE=sha256: and 64 hexadecimal digits", a)
		}
		if !slices.ContainsFunc(wanted, func(w spec.Wanted) bool { return w.Image == img }) {
			return nil, fmt.Errorf("--image %s: the spec names no such image", a)
		}
		out[img] = digest
	}
	return out, nil
}

func resolveLock(ctx context.Context, app *App, p *spec.Platform, old *spec.Lock, wanted []spec.Wanted, given map[string]string, o *lockOptions) *spec.Lock {
	lock := &spec.Lock{Version: spec.LockVersion, Platform: p.Metadata.Name}
	var ask []spec.Wanted
	var references []string
	for _, w := range wanted {
		switch digest, ok := given[w.Image]; {
		case ok:
			lock.Images = append(lock.Images, spec.LockedImage{Image: w.Image, Reference: w.Reference, Digest: digest, Given: true})
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
		if answer.Err == nil {
			lock.Images = append(lock.Images, spec.LockedImage{Image: w.Image, Reference: w.Reference, Digest: answer.Digest, Platforms: answer.Platforms})
			continue
		}
		if was := resolvedBefore(old, w); was != nil {
			was.Stale = answer.Err.Error()
			lock.Images = append(lock.Images, *was)
			continue
		}
		lock.Unresolved = append(lock.Unresolved, spec.Unresolved{Image: w.Image, Reference: w.Reference, Reason: answer.Err.Error()})
	}
	return lock
}

func resolvedBefore(old *spec.Lock, w spec.Wanted) *spec.LockedImage {
	if old == nil {
		return nil
	}
	for _, x := range old.Images {
		if x.Image == w.Image && x.Reference == w.Reference && !x.Given {
			c := x
			return &c
		}
	}
	return nil
}
