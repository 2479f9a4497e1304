// Package server runs a Kubernetes control plane inside the calling process: a
// real kube-apiserver with its default admission plugins, an embedded etcd, and
// the controllers without which nothing is admitted.
//
// It exists so that an attack can be judged by the code that judges it in a
// cluster. It is not for production: etcd does not sync to disk and there is no
// scheduler, no kubelet and no network.
//
// Several servers may run in one process. They share klog, the feature gates
// that Kubernetes reads from process-wide variables, and the policy refresh
// interval (see [Options.PolicyRefresh]).
package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/client-go/rest"
)

// Options says how to run a server. The zero value runs one in a temporary
// directory that Stop removes.
type Options struct {
	// Dir holds everything the server writes unless another field says
	// otherwise. It must be empty or absent; it is made with mode 0700 and is
	// kept by Stop. Empty means a temporary directory, which Stop removes.
	Dir string

	// Kubeconfig is where the admin's kubeconfig goes; empty means
	// Dir/kubeconfig. A file that is there already is replaced only when an
	// earlier lab wrote it. Stop removes it, since it leads nowhere afterwards.
	Kubeconfig string

	// AuditLog is the audit log, one JSON event (audit.k8s.io/v1) a line, mode
	// 0600; empty means Dir/audit.log. Events are appended.
	AuditLog string

	// AuditPolicy is a file with an audit.k8s.io/v1 Policy; empty means
	// Metadata for every request, without the RequestReceived stage.
	AuditPolicy string

	// StaticPolicies is a directory of ValidatingAdmissionPolicy and
	// ValidatingAdmissionPolicyBinding manifests which the server loads itself
	// (KEP-5793). Names must end in ".static.k8s.io". Unlike policies created
	// through the API, these are also asked about requests that change policies
	// and bindings. Empty means none.
	StaticPolicies string

	// PolicyRefresh is how often the server looks for changed policies; 0 leaves
	// the interval as it is, which is 1 s unless somebody changed it. The
	// interval is a variable of the process: the last Start wins for all servers
	// in it.
	PolicyRefresh time.Duration

	// WorkloadControllers also runs the controllers of Deployments, ReplicaSets,
	// StatefulSets, DaemonSets, Jobs and CronJobs. Their pods stay Pending.
	WorkloadControllers bool

	// Flags are further flags of kube-apiserver ("--name=value"), parsed after
	// the server's own, so that they win.
	Flags []string
}

// Server is a running control plane. Its methods may be called from several
// goroutines.
type Server struct {
	dir        string
	ownDir     bool // Stop removes dir
	url        string
	kubeconfig string
	auditLog   string
	config     *rest.Config

	etcd        *etcd
	api         *apiserver
	controllers *controllers

	stop    chan struct{} // the first Stop sends
	done    chan struct{} // closed when everything is down
	cause   error         // why it went down unasked; read after done
	stopErr error         // what went wrong while stopping; read after done
}

// stopLimit is how long the API server and the controllers get to end
// gracefully. With an open watch it takes about 1.1 s, see apiserverFlags.
const stopLimit = 10 * time.Second

// Start runs a server and returns when it is ready: /readyz answers ok, the
// namespace default has its ServiceAccount and the roles view, edit and admin
// have their aggregated rules.
//
// ctx bounds the start only; the server runs until Stop. When Start fails,
// nothing of it is left running or on disk.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	s := &Server{stop: make(chan struct{}), done: make(chan struct{})}
	if err := s.prepareDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.teardown())
		}
	}()

	if s.auditLog, err = pathOr(o.AuditLog, s.dir, "audit.log"); err != nil {
		return nil, err
	}
	kubeconfig, err := pathOr(o.Kubeconfig, s.dir, "kubeconfig")
	if err != nil {
		return nil, err
	}
	if err := checkReplaceable(kubeconfig); err != nil {
		return nil, err
	}
	s.kubeconfig = kubeconfig // from here on it is ours to remove
	if o.PolicyRefresh > 0 {
		generic.SetPolicyRefreshIntervalForTests(o.PolicyRefresh)
	}

	certs, err := writeCertificates(s.dir)
	if err != nil {
		return nil, err
	}
	if s.etcd, err = startEtcd(ctx, s.dir); err != nil {
		return nil, err
	}
	flags, err := apiserverFlags(s.dir, s.auditLog, s.etcd.url, certs, o)
	if err != nil {
		return nil, err
	}
	if s.api, err = startAPIServer(ctx, flags); err != nil {
		return nil, err
	}
	s.url = "https://" + s.api.address
	s.config = &rest.Config{
		Host:            s.url,
		TLSClientConfig: rest.TLSClientConfig{CAData: certs.ca, CertData: certs.admin.cert, KeyData: certs.admin.key},
		QPS:             -1, // a client-side limit would only slow tests down
	}
	if err := s.waitHealthy(ctx); err != nil {
		return nil, err
	}
	if s.controllers, err = startControllers(s.config, certs.ca, o.WorkloadControllers); err != nil {
		return nil, err
	}
	if err := s.waitUsable(ctx); err != nil {
		return nil, err
	}
	if err := writeKubeconfig(s.kubeconfig, s.url, certs); err != nil {
		return nil, err
	}
	go s.supervise()
	return s, nil
}

// Config returns a copy of the admin's client configuration. The admin is in
// system:masters and so may do everything, impersonation included.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.config) }

// URL returns the address of the API server, https://127.0.0.1:port.
func (s *Server) URL() string { return s.url }

// Dir returns the directory that holds the server's files.
func (s *Server) Dir() string { return s.dir }

// Kubeconfig returns the path of the admin's kubeconfig.
func (s *Server) Kubeconfig() string { return s.kubeconfig }

// AuditLog returns the path of the audit log. The entry of a request is in it
// before the response to that request is complete.
func (s *Server) AuditLog() string { return s.auditLog }

// Done returns a channel that is closed when the server is down, be it through
// Stop or because a part of it failed; Err tells which.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns nil while the server runs and after Stop, and otherwise why the
// server went down.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.cause
	default:
		return nil
	}
}

// Stop ends the server and returns when its ports are closed and its files are
// removed, except for a directory or audit log that Options named. It takes one
// to two seconds. Later calls wait for the first and return the same.
func (s *Server) Stop() error {
	select {
	case s.stop <- struct{}{}:
	case <-s.done:
	}
	<-s.done
	return s.stopErr
}

// supervise takes the server down when it is asked to or when a part of it ends.
func (s *Server) supervise() {
	select {
	case <-s.stop:
	case err := <-s.etcd.err():
		s.cause = fmt.Errorf("etcd failed: %w", err)
	case <-s.api.done:
		s.cause = errors.Join(errors.New("the API server ended unasked"), s.api.err)
	}
	s.stopErr = s.teardown()
	close(s.done)
}

// teardown stops what was started, in the reverse order, and removes the files.
// It may be called on a server that was started in part.
func (s *Server) teardown() error {
	var errs []error
	if s.controllers != nil {
		errs = append(errs, s.controllers.stop(stopLimit))
	}
	if s.api != nil {
		if err := s.api.stop(stopLimit); s.cause == nil {
			errs = append(errs, err)
		}
	}
	if s.etcd != nil {
		s.etcd.stop()
	}
	if s.kubeconfig != "" {
		if err := os.Remove(s.kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the kubeconfig: %w", err))
		}
	}
	if s.ownDir {
		if err := os.RemoveAll(s.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove the server's directory: %w", err))
		}
	}
	return errors.Join(errs...)
}

// prepareDir makes dir, or a temporary directory if dir is empty.
func (s *Server) prepareDir(dir string) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "bulwark-lab-") // mode 0700
		if err != nil {
			return fmt.Errorf("make a temporary directory (is TMPDIR writable?): %w", err)
		}
		s.dir, s.ownDir = tmp, true
		return nil
	}
	abs, err := pathOr(dir, "", "")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return fmt.Errorf("make the server's directory: %w", err)
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return fmt.Errorf("read the server's directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("directory %s is not empty (it has %s): name an empty or a new one", dir, entries[0].Name())
	}
	// MkdirAll leaves the mode of a directory that was there.
	if err := os.Chmod(abs, 0o700); err != nil {
		return fmt.Errorf("close the server's directory to others: %w", err)
	}
	s.dir = abs
	return nil
}

// pathOr returns path made absolute, or dir/name if path is empty.
func pathOr(path, dir, name string) (string, error) {
	if path == "" {
		return filepath.Join(dir, name), nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the absolute path of %s: %w", path, err)
	}
	return abs, nil
}
