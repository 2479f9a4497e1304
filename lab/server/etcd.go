package server

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
)

// socketPathLimit is what sun_path holds without its final NUL: 107 bytes on
// Linux (unix(7)) and 103 on the BSDs and macOS (unix(4)).
const socketPathLimit = 103

// etcd is a one-member etcd. It listens on Unix sockets in the server's
// directory only: whoever can talk to etcd is past every defence of the API
// server, and a TCP port on a shared machine is open to all its users.
type etcd struct {
	url    string
	server *embed.Etcd
}

func startEtcd(ctx context.Context, dir string) (*etcd, error) {
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "etcd.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer.sock")}
	if n := len(peer.Path); n > socketPathLimit {
		return nil, fmt.Errorf("the path %s has %d bytes, but a Unix socket may have %d: choose a shorter directory",
			peer.Path, n, socketPathLimit)
	}

	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "etcd")
	c.LogLevel = "error"
	c.LogOutputs = []string{filepath.Join(dir, "etcd.log")}
	c.ListenClientUrls = []url.URL{client}
	c.AdvertiseClientUrls = []url.URL{client}
	// For peers etcd takes the socket's path from the host part; without one it
	// would listen on an abstract socket, which has no permissions.
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peer.Path}}
	c.AdvertisePeerUrls = []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = true // nothing in a lab is worth the wait
	server, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return &etcd{url: client.String(), server: server}, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	server.Close()
	return nil, fmt.Errorf("wait for etcd: %w", err)
}

// err yields an error when etcd fails.
func (e *etcd) err() <-chan error { return e.server.Err() }

// stop returns when etcd is down.
func (e *etcd) stop() { e.server.Close() }
