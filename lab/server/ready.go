package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// pollInterval is how often Start asks whether the server is ready.
const pollInterval = 20 * time.Millisecond

// waitHealthy waits until /readyz answers ok. From then on the roles that RBAC
// brings with it exist.
func (s *Server) waitHealthy(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return s.poll(ctx, "the API server", func(ctx context.Context) error {
		body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx)
		if err != nil && len(body) > 0 {
			return fmt.Errorf("%w: %s", err, body)
		}
		return err
	})
}

// waitUsable waits until the controllers have done what every user relies on.
// Without it the first pods are refused for want of a ServiceAccount, which
// looks like a defence.
func (s *Server) waitUsable(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return s.poll(ctx, "the controllers", func(ctx context.Context) error {
		if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		for _, name := range []string{"view", "edit", "admin"} {
			role, err := client.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(role.Rules) == 0 {
				return fmt.Errorf("ClusterRole %s has no aggregated rules yet", name)
			}
		}
		return nil
	})
}

// poll calls ready until it returns nil, ctx ends or the API server does.
func (s *Server) poll(ctx context.Context, what string, ready func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; the last answer was: %w", what, context.Cause(ctx), err)
		case <-s.api.done:
			return errors.Join(fmt.Errorf("wait for %s: the API server ended; the last answer was: %w", what, err), s.api.err)
		case <-tick.C:
		}
	}
}
