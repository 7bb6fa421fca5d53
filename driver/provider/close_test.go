package provider_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// deaf serves a socket that sends HTTP/2 pings for ever and reads nothing, so
// that the client's side of the connection is full and stays so. It says when
// it is.
func deaf(t *testing.T, path string) (full <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	t.Cleanup(func() { _ = l.Close() })
	blocked := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS
		ping := []byte("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678")
		for {
			// The client stops reading once its answers pile up.
			_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := c.Write(ping); err != nil {
				close(blocked)
				return
			}
		}
	}()
	return blocked
}

// grpc waits five seconds for a connection to take its farewell.
const patience = 4 * time.Second

// TestP8ClosingADeafConnectionHoldsUpNobody: a call that is given up, and the
// calls to the provider that was installed in the place of the deaf one.
func TestP8ClosingADeafConnectionHoldsUpNobody(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "local.sock")
	full := deaf(t, path)
	d := deliverer(t, nil, dir)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	call := allowed(t, objects("db-password"))
	go func() { _, err := d.Deliver(ctx, call); given <- err }()
	<-full
	must(t, os.Rename(path, path+".old"))
	providertest.Start(t, providertest.Config{Handler: decent(), Dir: dir})

	begin := time.Now()
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Errorf("Deliver() from the new provider = %v", err)
	}
	cancel() // the last user of the old connection
	if got := reasonOf(t, <-given); got != provider.Canceled {
		t.Errorf("Deliver() that was given up = %q, want %s", got, provider.Canceled)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("the calls took %v, want them not to wait for the deaf connection", took)
	}
}
