package daemon

import (
	"net"
	"sync"
)

// MaxGuests is how many connections an HTTP endpoint holds: kubelet's probes, a
// scraper or two, and people. Every pod of the cluster can reach the plugin's,
// and each connection costs 20 KiB of the memory that volumes live in.
const MaxGuests = 64

// crowdPart of the room is what one address may have: it then makes room of its own.
const crowdPart = 4

// crowd is a listener that holds so many connections and no more. Another one is
// let in all the same, so that whoever fills the room keeps no probe of kubelet
// out: the oldest of the address that has the most goes. Where none has much, and so
// many of them fill the room, first goes what is idle: whoever needs it dials again.
type crowd struct {
	net.Listener
	most int

	mu     sync.Mutex
	guests []*guest // the oldest first
}

// Crowd returns a listener that holds at most so many connections of another.
func Crowd(l net.Listener, most int) net.Listener { return &crowd{Listener: l, most: most} }

// guest is one of the connections.
type guest struct {
	net.Conn
	from  string
	crowd *crowd
	idle  bool // guarded by the mutex of crowd
}

// SetIdle is for servers that know of a connection that its request was answered and
// no other has begun.
func (g *guest) SetIdle(idle bool) {
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	g.idle = idle
}

// Accept returns the next connection.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, from: addressOf(conn), crowd: c}
	c.admit(g).leave()
	return g, nil
}

// addressOf returns the other side without its port.
func addressOf(conn net.Conn) string {
	address := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// admit counts a connection, and returns the one that it takes the place of, if
// there is none left.
func (c *crowd) admit(g *guest) *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guests = append(c.guests, g)
	if len(c.guests) <= c.most {
		return nil
	}
	out := c.leaver()
	c.remove(out)
	return out
}

// leaver is called with the lock held.
func (c *crowd) leaver() *guest {
	counts := map[string]int{}
	for _, in := range c.guests {
		counts[in.from]++
	}
	most, idle := c.guests[0], (*guest)(nil)
	for _, in := range c.guests {
		if counts[in.from] > counts[most.from] {
			most = in
		}
		if in.idle && (idle == nil || counts[in.from] > counts[idle.from]) {
			idle = in
		}
	}
	if idle != nil && counts[most.from] <= c.most/crowdPart {
		return idle
	}
	return most
}

// remove is called with the lock held.
func (c *crowd) remove(g *guest) {
	for i, in := range c.guests {
		if in == g {
			c.guests = append(c.guests[:i], c.guests[i+1:]...)
			return
		}
	}
}

// leave closes a connection, and has the kernel keep nothing of it: what was not
// sent yet would wait for whoever does not read.
func (g *guest) leave() {
	if g == nil {
		return
	}
	if conn, ok := g.Conn.(*net.TCPConn); ok {
		_ = conn.SetLinger(0)
	}
	_ = g.Conn.Close()
}

// Close closes the connection, and makes room.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	g.crowd.remove(g)
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}
