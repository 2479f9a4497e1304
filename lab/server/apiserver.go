package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	basecompatibility "k8s.io/component-base/compatibility"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// apiserver is a running kube-apiserver.
type apiserver struct {
	address string // host:port
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // read after done
}

// apiserverFlags returns the command line of kube-apiserver. Whatever is not in
// it is as on a cluster: the default admission plugins and anonymous requests
// included.
func apiserverFlags(dir, auditLog, etcdURL string, c certificates, o Options) ([]string, error) {
	auditPolicy, err := auditPolicyFile(dir, o.AuditPolicy)
	if err != nil {
		return nil, err
	}
	flags := []string{
		"--etcd-servers=" + etcdURL,
		"--tls-cert-file=" + c.servingCertFile,
		"--tls-private-key-file=" + c.servingKeyFile,
		"--client-ca-file=" + c.caFile,
		"--authorization-mode=RBAC",
		"--allow-privileged=true", // else the API server, not a policy, refuses privileged pods
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.tokenKeyFile,
		"--service-account-signing-key-file=" + c.tokenKeyFile,
		"--service-cluster-ip-range=10.0.0.0/16",
		"--endpoint-reconciler-type=none", // 127.0.0.1 is not a valid endpoint
		"--audit-policy-file=" + auditPolicy,
		"--audit-log-path=" + auditLog,
		"--audit-log-mode=blocking", // a reader finds the entry as soon as it has the response
		"--audit-log-maxsize=4096",  // MB; rotation would pull the file from under its reader
		"--profiling=false",
		// An open watch would hold the shutdown up for 60 s.
		"--shutdown-watch-termination-grace-period=1s",
		"--shutdown-delay-duration=0s",
	}
	if o.StaticPolicies != "" {
		config, err := admissionConfigFile(dir, o.StaticPolicies)
		if err != nil {
			return nil, err
		}
		flags = append(flags, "--admission-control-config-file="+config)
	}
	return append(flags, o.Flags...), nil
}

// startAPIServer runs kube-apiserver on a free port of 127.0.0.1. It returns
// before the server is ready.
//
// It does by hand what app.Run does, because app.Run registers an informer name
// for the process and so cannot run twice in it.
func startAPIServer(ctx context.Context, flags []string) (*apiserver, error) {
	// The listener is handed over rather than its number, so that nobody takes
	// the port in between. The API server closes it.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
	}
	// The server outlives the start, so it gets what ctx carries but not its end.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	server, err := newAPIServer(run, listener, flags)
	if err != nil {
		cancel()
		_ = listener.Close()
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		cancel()
		_ = listener.Close()
		return nil, fmt.Errorf("prepare the API server: %w", err)
	}
	a := &apiserver{address: listener.Addr().String(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = prepared.Run(run)
	}()
	return a, nil
}

func newAPIServer(ctx context.Context, listener net.Listener, flags []string) (*aggregatorapiserver.APIAggregator, error) {
	// A registry and feature gates of its own, so that several servers can live
	// in one process.
	registry := basecompatibility.NewComponentGlobalsRegistry()
	gates := utilfeature.DefaultMutableFeatureGate.DeepCopy()
	if err := registry.Register(basecompatibility.DefaultKubeComponent, newEffectiveVersion(), gates); err != nil {
		return nil, fmt.Errorf("register the version: %w", err)
	}
	o := options.NewServerRunOptions()
	o.GenericServerRunOptions.ComponentGlobalsRegistry = registry
	o.SecureServing.Listener = listener
	o.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	o.SecureServing.ExternalAddress = net.IPv4(127, 0, 0, 1)

	set := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	set.Usage = func() {}
	named := o.Flags()
	for _, f := range named.FlagSets {
		set.AddFlagSet(f)
	}
	if err := set.Parse(flags); err != nil {
		return nil, fmt.Errorf("parse the flags: %w", err)
	}
	if err := registry.Set(); err != nil {
		return nil, fmt.Errorf("set the feature gates: %w", err)
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("complete the options: %w", err)
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return nil, fmt.Errorf("validate the options: %w", err)
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, fmt.Errorf("configure: %w", err)
	}
	complete, err := config.Complete()
	if err != nil {
		return nil, fmt.Errorf("complete the configuration: %w", err)
	}
	return app.CreateServerChain(complete)
}

// stop returns when the API server has closed its port, or after limit.
func (a *apiserver) stop(limit time.Duration) error {
	a.cancel()
	select {
	case <-a.done:
		if a.err != nil {
			return fmt.Errorf("stop the API server: %w", a.err)
		}
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the API server still runs %v after it was asked to stop", limit)
	}
}
