package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	// lapse is how long a loosened policy may still refuse: API servers refresh policies once a second, and each of a
	// highly available cluster does so by itself.
	lapse = 5 * time.Second
	// patience is how often a request is sent again that the server was too busy for.
	patience = 5
	poll     = 100 * time.Millisecond
)

// apply sends the items in order and stops at the first that the server refuses: what follows may need it.
func (c *conn) apply(ctx context.Context, f *forecast, opts Options, res *Result) error {
	planned := map[identity]bool{}
	for _, it := range f.items {
		planned[identityOf(it.want)] = true
	}
	end := func(i int, at string, err error) error {
		for _, it := range f.items[i:] {
			o := it.outcome(NotReached, "")
			if it.expect == Unchanged {
				o.Action = Unchanged // it was in place before the run, and nobody touched it
			}
			res.Objects = append(res.Objects, o)
		}
		return &IncompleteError{At: at, Err: err}
	}
	fresh := 0
	for i, it := range f.items {
		isNew := it.is("Namespace") && it.live == nil
		if fresh > 0 && !isNew {
			// The last of the new namespaces was made: what follows needs them.
			if at, err := c.waitNamespaces(ctx, f.items[:i], opts); err != nil {
				return end(i, at, err)
			}
			fresh = 0
		}
		if isNew {
			fresh++
		}
		if it.expect == Unchanged {
			res.Objects = append(res.Objects, it.outcome(Unchanged, ""))
			opts.tell("apply", i+1, len(f.items), "unchanged "+it.String())
			continue
		}
		got, err := c.persist(ctx, it, opts, f.loosening, planned)
		if err != nil {
			message := err.Error()
			if ctx.Err() != nil {
				err, message = ctx.Err(), "interrupted; whether the server took it is not known"
			} else if o := owners(err); len(o) > 0 {
				message = fmt.Sprintf("others own fields: %v", o)
			}
			res.Objects = append(res.Objects, it.outcome(Failed, message))
			return end(i+1, "applying "+it.String(), err)
		}
		action := Configured
		if it.live == nil {
			action = Created
		} else if got.GetResourceVersion() == it.live.GetResourceVersion() {
			action = Unchanged
		}
		o := it.outcome(action, "")
		o.ClientSide = false // the server has judged it now
		res.Objects = append(res.Objects, o)
		opts.tell("apply", i+1, len(f.items), string(action)+" "+it.String())
	}
	if fresh > 0 {
		if at, err := c.waitNamespaces(ctx, f.items, opts); err != nil {
			return end(len(f.items), at, err)
		}
	}
	return nil
}

// persist applies one item. It asks again when the server is too busy, and, while a stage loosens, when a policy of the
// plan that has not lapsed yet still refuses.
func (c *conn) persist(ctx context.Context, it *item, opts Options, loosening bool, planned map[identity]bool) (*unstructured.Unstructured, error) {
	start := time.Now()
	for try := 1; ; try++ {
		got, err := c.send(ctx, it, opts, false)
		switch {
		case err == nil:
			return got, nil
		case loosening && refusedByPlan(err, planned) && time.Since(start) < lapse:
		case try < patience && (apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err)):
		default:
			return nil, err
		}
		if !pause(ctx, time.Duration(try)*poll) {
			return nil, err
		}
	}
}

// waitNamespaces waits until the namespaces among the items take pods: active, and with the account that every pod gets.
func (c *conn) waitNamespaces(ctx context.Context, items []*item, opts Options) (at string, err error) {
	deadline := time.Now().Add(opts.Timeout)
	for _, it := range items {
		if !it.is("Namespace") || it.live != nil {
			continue
		}
		name := it.want.GetName()
		at = "waiting for namespace " + name
		for {
			var missing string
			ns, err := c.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			switch {
			case err != nil && !apierrors.IsNotFound(err):
				return at, err
			case err != nil:
				missing = "it is not there"
			case ns.DeletionTimestamp != nil:
				return at, errors.New("somebody deletes it")
			case ns.Status.Phase != "Active":
				missing = fmt.Sprintf("its phase is %q", ns.Status.Phase)
			default:
				_, err = c.typed.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
				if err == nil {
					break
				}
				if !apierrors.IsNotFound(err) {
					return at, err
				}
				missing = "it has no service account default; is kube-controller-manager running?"
			}
			if missing == "" {
				break
			}
			if time.Now().After(deadline) {
				return at, fmt.Errorf("after %s %s", opts.Timeout, missing)
			}
			if !pause(ctx, poll) {
				return at, ctx.Err()
			}
		}
		opts.tell("wait", 1, 1, "namespace "+name+" is active")
	}
	return "", nil
}

// pause waits; false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
