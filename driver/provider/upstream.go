package provider

import (
	"context"
	"sync"

	"google.golang.org/grpc/connectivity"
)

// upstream is one provider: its slots and its connection.
type upstream struct {
	name  string
	slots chan struct{}

	mu      sync.Mutex
	current *conn
}

// enter takes a slot, waiting for one as long as ctx lasts. It is per provider,
// so that a hung one fills no slots but its own.
func (u *upstream) enter(ctx context.Context) error {
	select {
	case u.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	reason, _ := contextReason(ctx)
	if reason == ProviderTimeout {
		reason = ProviderBusy
	}
	return &Error{Reason: reason, Provider: u.name}
}

// leave gives the slot back.
func (u *upstream) leave() { <-u.slots }

// use returns the connection to the socket file s. A connection to another
// file, the one before the provider was installed anew, ends with its last user.
func (u *upstream) use(d *Deliverer, s socket) (*conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current == nil || !u.current.socket.same(s) {
		c, err := d.dial(u.name, s)
		if err != nil {
			return nil, err
		}
		u.retire()
		u.current = c
	}
	u.current.users++
	return u.current, nil
}

// connected reports whether the connection to the socket file s is open.
func (u *upstream) connected(s socket) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current != nil && u.current.socket.same(s) && u.current.cc.GetState() == connectivity.Ready
}

// release ends a use of c.
func (u *upstream) release(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c.users--
	c.closeIfUnused()
}

// drop lets go of c if it is still the current connection, so that the next
// call looks at the socket anew.
func (u *upstream) drop(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current == c {
		u.retire()
	}
}

// retire lets go of the current connection; the caller holds mu.
func (u *upstream) retire() {
	if u.current == nil {
		return
	}
	u.current.stale = true
	u.current.closeIfUnused()
	u.current = nil
}

// closeIfUnused closes a connection that nobody will use again. Not here and
// now: grpc waits seconds for a peer that does not read to take its farewell,
// and the caller holds the lock of a provider, or is on the way to an unpublish.
func (c *conn) closeIfUnused() {
	if c.stale && c.users == 0 {
		go c.close()
	}
}

// close ends the connection. The error is grpc's ErrClientConnClosing, which
// would say that it is closed already.
func (c *conn) close() { _ = c.cc.Close() }

// upstream returns the provider of that name. Only names with a trusted socket
// come here, so that names from manifests cannot fill the map.
func (d *Deliverer) upstream(name string) *upstream {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, ok := d.upstreams[name]
	if !ok {
		u = &upstream{name: name, slots: make(chan struct{}, d.slotsOf(name))}
		d.upstreams[name] = u
	}
	return u
}

// slotsOf is how many calls a provider gets at the same time. Akeyless's keeps
// token and gateway of its last login for the whole process: of two mounts at
// once, one could be answered with the other's identity.
func (d *Deliverer) slotsOf(name string) int {
	if name == "akeyless" {
		return 1
	}
	return d.config.Concurrency
}

// Close ends all connections at the same time; calls in progress fail.
func (d *Deliverer) Close() {
	var wg sync.WaitGroup
	defer wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.upstreams {
		u.mu.Lock()
		if u.current != nil {
			wg.Go(u.current.close)
		}
		u.mu.Unlock()
	}
}
