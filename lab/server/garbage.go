package server

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
)

// garbageSync is how often the garbage collector looks for new kinds of objects;
// kube-controller-manager does so every 30 s.
const garbageSync = 5 * time.Second

// newGarbageCollector follows newGarbageCollectorController in
// k8s.io/kubernetes/cmd/kube-controller-manager/app/core.go.
func newGarbageCollector(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	// It watches objects of every kind, those of CRDs included, of which it needs
	// the metadata only.
	watches := metadatainformer.NewSharedInformerFactory(objects, 0)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	started := make(chan struct{})
	c, err := garbagecollector.NewGarbageCollector(ctx, client, objects, mapper, garbagecollector.DefaultIgnoredResources(),
		informerfactory.NewInformerFactory(b.informers, watches), started)
	if err != nil {
		return nil, fmt.Errorf("make the dependency graph: %w", err)
	}
	return func(ctx context.Context, workers int) {
		close(started) // the shared informers have been started by now
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Sync(ctx, client.Discovery(), garbageSync)
		}()
		c.Run(ctx, workers, garbageSync)
		<-ended
	}, nil
}
