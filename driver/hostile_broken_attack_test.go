//go:build attack

package driver_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

func briefWaits(c *setup) {
	c.deliverer = func(d *provider.Config) { d.Timeout, d.ConnectTimeout = 3*time.Second, 1500*time.Millisecond }
}

// TestP4AProviderThatClosesBeforeItAnswers cuts the connection within the
// settings and before the headers of a reply, where the client connects again
// and again until its time is over.
func TestP4AProviderThatClosesBeforeItAnswers(t *testing.T) {
	cuts := []int{1, 2, 8, 9, 10, 17, 18, 24, 36, 48, 70}
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		t.Parallel()
		n := newNode(t, protection, withOdd(len(cuts)), briefWaits)
		n.addOdd(len(cuts))
		var wg sync.WaitGroup
		for i, at := range cuts {
			wg.Go(func() { n.closesHalfWay(t, i, at) })
		}
		wg.Wait()
		n.checkSpill(nil)
	})
}

// speakers are servers on a provider's socket that do not speak its protocol,
// or not to an end.
func speakers() map[string]func(net.Conn) {
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0} // an empty SETTINGS frame of HTTP/2
	return map[string]func(net.Conn){
		"says nothing":      func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); waitForClose(c) },
		"closes at once":    func(net.Conn) {},
		"speaks HTTP/1.1":   func(c net.Conn) { write(c, "HTTP/1.1 200 OK\r\n\r\n"+spill) },
		"speaks in riddles": func(c net.Conn) { write(c, strings.Repeat(spill, 1000)) },
		"settings and no more": func(c net.Conn) {
			write(c, string(settings))
			waitForClose(c)
		},
		"a frame of 16 MiB": func(c net.Conn) {
			write(c, string(settings)+"\xff\xff\xff\x00\x00\x00\x00\x00\x01"+spill)
			waitForClose(c)
		},
		"settings for ever": func(c net.Conn) {
			for write(c, string(bytes.Repeat(settings, 100))) {
				time.Sleep(time.Millisecond)
			}
		},
		"pings for ever": func(c net.Conn) {
			for write(c, string(settings)+"\x00\x00\x08\x06\x00\x00\x00\x00\x00"+spill[:8]) {
				time.Sleep(time.Millisecond)
			}
		},
		"goes away": func(c net.Conn) {
			write(c, string(settings)+"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0b")
			waitForClose(c)
		},
	}
}

func write(c net.Conn, text string) bool {
	_, err := c.Write([]byte(text))
	return err == nil
}

// waitForClose reads until the other side is gone.
func waitForClose(c net.Conn) {
	buffer := make([]byte, 4096)
	for {
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

// TestP12ProvidersThatDoNotSpeakTheProtocol: each is given up in time, nothing
// of what it said is repeated, and what was mounted stays.
func TestP12ProvidersThatDoNotSpeakTheProtocol(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		t.Parallel()
		n := newNode(t, protection, withOdd(2*len(speakers())), briefWaits)
		n.addOdd(2 * len(speakers()))
		i := 0
		var wg sync.WaitGroup
		for name, speak := range speakers() {
			fresh, mounted := i, i+1
			i += 2
			wg.Go(func() { n.firstPublishFrom(t, name, fresh, speak) })
			wg.Go(func() { n.rotationFrom(t, name, mounted, speak) })
		}
		wg.Wait()
		n.checkSpill(nil)
		n.mustPublish(apiPod())
	})
}

func (n *node) firstPublishFrom(t *testing.T, name string, i int, speak func(net.Conn)) {
	asked := serve(t, filepath.Join(n.provider.Dir, odd(i)+".sock"), speak)
	expectBroken(t, n.publish(oddPod(i)))
	if got := glance(n.target(oddPod(i))); got != "nothing" || asked.Load() == 0 {
		t.Errorf("%s: after a refusal and %d connections there is %s, want nothing", name, asked.Load(), got)
	}
	if err := n.unpublish(oddPod(i)); err != nil {
		t.Errorf("%s: NodeUnpublishVolume() = %v, want nil", name, err)
	}
}

func (n *node) rotationFrom(t *testing.T, name string, i int, speak func(net.Conn)) {
	p := oddPod(i)
	decent := providertest.Start(t, providertest.Config{Handler: providertest.Files(secretFiles()), Name: odd(i), Dir: n.provider.Dir})
	if err := n.publish(p); err != nil {
		t.Errorf("%s: NodePublishVolume() from a decent provider = %v, want nil", name, err)
	}
	before := glance(n.target(p))
	decent.Stop()
	asked := serve(t, decent.Path, speak)
	n.clock.advance(2 * refreshInterval)
	if err := n.publish(p); err != nil {
		t.Errorf("%s: republish = %v, want nil", name, err)
	}
	if got := glance(n.target(p)); got != before || !strings.Contains(got, canary) || asked.Load() == 0 || n.failures(p) != 1 {
		t.Errorf("%s: after %d connections and %d failed refreshes there is %s, want %s", name, asked.Load(), n.failures(p), got, before)
	}
	if err := n.unpublish(p); err != nil {
		t.Errorf("%s: NodeUnpublishVolume() = %v, want nil", name, err)
	}
}

// serve answers every connection to a new socket with speak, and counts them.
func serve(t *testing.T, path string, speak func(net.Conn)) *atomic.Int64 {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	connections := new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer func() { _ = c.Close() }()
				speak(c)
			}()
		}
	}()
	return connections
}
