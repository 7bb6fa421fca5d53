package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"

	"github.com/portcullis-csi/portcullis/hardening"
)

// serviceConfig is upstream's, so that providers see the same caller; but that
// a question for the version, which may go unanswered, is put once.
const serviceConfig = `{"methodConfig": [{
	"name": [{"service": "v1alpha1.CSIDriverProvider"}],
	"waitForReady": true,
	"retryPolicy": {
		"MaxAttempts": 3, "InitialBackoff": "1s", "MaxBackoff": "10s",
		"BackoffMultiplier": 1.1, "RetryableStatusCodes": ["UNAVAILABLE"]
	}
}, {
	"name": [{"service": "v1alpha1.CSIDriverProvider", "method": "Version"}],
	"waitForReady": true
}]}`

// windowSize bounds what a provider can have in flight. Setting it also turns
// off grpc's own growth of it.
const windowSize = 1 << 20

// conn is a connection to one socket file.
type conn struct {
	name   string // of the provider
	cc     *grpc.ClientConn
	socket socket
	users  int  // guarded by upstream.mu
	stale  bool // guarded by upstream.mu: another socket has taken its place

	mu      sync.Mutex
	dialErr error // of the last attempt
	hand    handshake
}

// dial prepares a connection; the first call opens it.
func (d *Deliverer) dial(name string, s socket) (*conn, error) {
	c := &conn{name: name, socket: s, hand: handshake{asking: make(chan struct{}, 1)}}
	cc, err := grpc.NewClient("passthrough:///"+name,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			nc, err := d.connect(ctx, s.path)
			c.noteDial(err)
			return nc, err
		}),
		// Providers derive nothing from it, and some refuse any other.
		grpc.WithAuthority("localhost"),
		// File permissions and the peer check secure the socket.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: d.config.ConnectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(d.config.MaxReceiveBytes)),
		// Without a reader of its own, grpc reads payloads straight into
		// buffers of the pool, and with the pool below all of them are wiped.
		grpc.WithReadBufferSize(0),
		grpc.WithWriteBufferSize(0),
		grpc.WithInitialWindowSize(windowSize),
		grpc.WithInitialConnWindowSize(windowSize),
		experimental.WithBufferPool(wiper{mem.DefaultBufferPool()}),
		grpc.WithStatsHandler(encodingGuard{}),
	)
	if err != nil {
		return nil, &Error{Reason: ProviderUnavailable, Provider: name, detail: "the connection cannot be prepared"}
	}
	c.cc = cc
	return c, nil
}

// untrustedError marks a socket or peer that is not trusted.
type untrustedError struct{ detail string }

// Error says why.
func (e *untrustedError) Error() string { return e.detail }

// connect opens a socket after the file, and before the first byte the process
// behind it, have been checked. The peer check also covers a socket that was
// exchanged in between.
func (d *Deliverer) connect(ctx context.Context, path string) (net.Conn, error) {
	if err := hardening.CheckSocket(path, d.owners); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, &untrustedError{fmt.Sprintf("%q %s", path, distrust(err))}
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := d.checkPeer(nc); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return nc, nil
}

// checkPeer compares the user that listens with the allowed ones.
func (d *Deliverer) checkPeer(nc net.Conn) error {
	unix, ok := nc.(*net.UnixConn)
	if !ok {
		return &untrustedError{"it is not a unix socket"}
	}
	uid, err := hardening.PeerUID(unix)
	if err != nil {
		return &untrustedError{"the user behind the socket cannot be read"}
	}
	if !slices.Contains(d.owners, uid) {
		return &untrustedError{fmt.Sprintf("user %d listens on it", uid)}
	}
	return nil
}

func (c *conn) noteDial(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	if err == nil {
		c.hand.dials++
	}
}

func (c *conn) lastDial() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialErr
}

// ready waits until the provider answers. A peer that is not trusted ends the
// wait at once; nothing else does but ctx, since a provider that restarts
// comes back within seconds.
func (c *conn) ready(ctx context.Context, limit time.Duration) error {
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		state := c.cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return &Error{Reason: Canceled, Provider: c.name}
		default:
		}
		var untrusted *untrustedError
		if errors.As(c.lastDial(), &untrusted) {
			return &Error{Reason: SocketUntrusted, Provider: c.name, detail: untrusted.detail}
		}
		c.cc.Connect()
		if !c.cc.WaitForStateChange(short, state) {
			return c.notReady(ctx)
		}
	}
}

// notReady says why the wait ended.
func (c *conn) notReady(ctx context.Context) error {
	if reason, over := contextReason(ctx); over && reason == Canceled {
		return &Error{Reason: Canceled, Provider: c.name}
	}
	return &Error{Reason: ProviderUnavailable, Provider: c.name}
}
