package collect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/intelgraph/bulwark/internal/source"
)

// Connect gives the connection that a kubeconfig describes, as kubectl would choose it: the file that is named, else
// those of $KUBECONFIG, else ~/.kube/config, else the service account of the pod that this runs in. context is the
// context's name; "" means the current one. Nothing is sent to the cluster yet.
func Connect(kubeconfig, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if kubeconfig != "" {
		if _, err := os.Stat(kubeconfig); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("the kubeconfig %s does not exist%s", kubeconfig, near(kubeconfig))
			}
			return nil, fmt.Errorf("cannot read the kubeconfig %s: %w", kubeconfig, reason(err))
		}
		rules.ExplicitPath = kubeconfig
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig does not load: %w; see `kubectl config view`", err)
	}
	if context != "" && raw.Contexts[context] == nil {
		return nil, fmt.Errorf("no context %q in %s; %s", context, origin(rules), contexts(raw, context))
	}
	cfg, err := loader.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			if name := firstOf(context, raw.CurrentContext); raw.Contexts[name] != nil {
				return nil, fmt.Errorf("the context %q of %s names the cluster %q, which is not in it; %s", name, origin(rules), raw.Contexts[name].Cluster, contexts(raw, ""))
			}
			if len(raw.Contexts) > 0 {
				return nil, fmt.Errorf("no current context in %s; name one with --context: %s", origin(rules), contexts(raw, ""))
			}
			return nil, fmt.Errorf("no cluster is configured in %s; name a kubeconfig with --kubeconfig, or judge files by naming their paths", origin(rules))
		}
		return nil, fmt.Errorf("the context %q of %s cannot be used: %w; %s", firstOf(context, raw.CurrentContext), origin(rules), err, contexts(raw, ""))
	}
	// The defaults of 5 and 10 requests a second are for controllers; the server's own priority and fairness protects it.
	cfg.QPS, cfg.Burst = 100, 200
	cfg.UserAgent = "bulwark"
	return cfg, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func origin(rules *clientcmd.ClientConfigLoadingRules) string {
	return strings.Join(rules.GetLoadingPrecedence(), ", ")
}

func contexts(raw clientcmdapi.Config, near string) string {
	names := make([]string, 0, len(raw.Contexts))
	for n := range raw.Contexts {
		names = append(names, n)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "it has no contexts"
	}
	hint := "its contexts: " + strings.Join(names, ", ")
	if near != "" {
		if h := source.DidYouMean(near, names); strings.HasPrefix(h, "did") {
			hint = h + " " + hint
		}
	}
	return hint
}
