// Package image asks registries about images. It is the only place that speaks the registry protocol.
package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Resolved is what a registry says of a reference.
type Resolved struct {
	// Digest is that of the index where there is one, else of the manifest.
	Digest string
	// Platforms are "os/arch" or "os/arch/variant", sorted.
	Platforms []string
}

// Resolver asks registries. The zero value asks anonymously, with sane bounds.
type Resolver struct {
	// Keychain finds credentials; nil means those of the Docker configuration, and anonymous where there are none.
	Keychain authn.Keychain
	// Timeout bounds one image; zero means 20 s.
	Timeout time.Duration
	// Parallel bounds how many registries are asked at once; zero means 4.
	Parallel int
}

// Resolve asks for one reference such as "ghcr.io/owner/app:1.4.2". The error is short, says what to do next, and holds
// no credential.
func (r *Resolver) Resolve(ctx context.Context, reference string) (Resolved, error) {
	ref, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return Resolved{}, fmt.Errorf("%q is no complete reference; write host/path:tag", reference)
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys := r.Keychain
	if keys == nil {
		keys = authn.DefaultKeychain
	}
	d, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(bounded{remote.DefaultTransport}), remote.WithUserAgent("bulwark"), remote.WithAuthFromKeychain(keys), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err != nil {
		return Resolved{}, short(ref, err)
	}
	out := Resolved{Digest: d.Digest.String()}
	if d.MediaType.IsIndex() {
		idx, err := d.ImageIndex()
		if err != nil {
			return Resolved{}, short(ref, err)
		}
		m, err := idx.IndexManifest()
		if err != nil {
			return Resolved{}, short(ref, err)
		}
		for _, x := range m.Manifests {
			// Attestations of BuildKit stand in the index as images for no platform.
			if p := x.Platform; p != nil && p.OS != "unknown" {
				out.add(p)
			}
		}
	} else if d.MediaType.IsImage() {
		img, err := d.Image()
		if err != nil {
			return Resolved{}, short(ref, err)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			return Resolved{}, short(ref, err)
		}
		out.add(cfg.Platform())
	}
	slices.Sort(out.Platforms)
	return out, nil
}

// maxAnswer is the most that is read of one answer, in bytes. A manifest has at most 4 MiB (OCI distribution
// specification), an image's configuration a few KiB.
const maxAnswer = 8 << 20

// bounded cuts answers off, so that no registry can fill our memory.
type bounded struct{ http.RoundTripper }

// RoundTrip asks, and bounds the body of the answer.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &cutBody{resp.Body, maxAnswer}
	}
	return resp, err
}

var errTooLarge = fmt.Errorf("answers with more than %d MiB", maxAnswer>>20)

type cutBody struct {
	io.ReadCloser
	left int
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLarge
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (r *Resolved) add(p *v1.Platform) {
	if p == nil || p.OS == "" {
		return
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if !slices.Contains(r.Platforms, s) {
		r.Platforms = append(r.Platforms, s)
	}
}

// Answer is what became of one reference.
type Answer struct {
	Resolved
	Err error
}

// ResolveAll asks for several references at once and gives the answers in their order. Progress, if set, is called
// after each, one at a time.
func (r *Resolver) ResolveAll(ctx context.Context, references []string, progress func(done, total int)) []Answer {
	out := make([]Answer, len(references))
	parallel := r.Parallel
	if parallel == 0 {
		parallel = 4
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	slots, done := make(chan struct{}, parallel), 0
	for i, ref := range references {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i].Resolved, out[i].Err = r.Resolve(ctx, ref)
			mu.Lock()
			defer mu.Unlock()
			done++
			if progress != nil {
				progress(done, len(references))
			}
		})
	}
	wg.Wait()
	return out
}

// short says why a registry gave no answer. The library's own errors hold whole URLs with their query, and a redirect's
// query can hold a token.
func short(ref name.Reference, err error) error {
	host := ref.Context().RegistryStr()
	var status *transport.Error
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%s refuses access to it; log in with `docker login %s`", host, host)
		case http.StatusNotFound:
			return fmt.Errorf("%s has no %s; check the name and the tag", host, ref.Identifier())
		case http.StatusTooManyRequests:
			return fmt.Errorf("%s answers too many requests; try again later", host)
		}
		return fmt.Errorf("%s answered %d", host, status.StatusCode)
	}
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var tlsErr *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time", host)
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("%s %w", host, errTooLarge)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.As(err, &dns):
		return fmt.Errorf("the host %s is not known here", strings.TrimSuffix(dns.Name, "."))
	case errors.As(err, &unknownCA), errors.As(err, &tlsErr):
		return fmt.Errorf("%s shows a certificate that is not trusted here", host)
	}
	return fmt.Errorf("%s cannot be reached", host)
}
