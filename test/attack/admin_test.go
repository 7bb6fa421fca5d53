//go:build attack

package attack_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// TestP8GrantingGoesOnWhileTheLogIsRead: four kubelets publish and unpublish,
// while snapshots stream one after the other, one reader follows, and one asked
// for everything and reads nothing. Every publish succeeds, and every snapshot
// verifies.
func TestP8GrantingGoesOnWhileTheLogIsRead(t *testing.T) {
	n := newNode(t, "--audit-epoch-bytes=1048576", "--audit-retention-bytes=8388608")
	n.class("db", "password")
	n.serve(map[string]string{"password": "correct horse"})
	var pods []pod
	const kubelets = 4
	for i := range kubelets {
		pods = append(pods, n.pod(fmt.Sprintf("api-%d", i), i+1, "db"))
	}
	p := n.start()
	socket := n.path("state/" + admin.SocketName)
	client := admin.Dial(socket, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers, publishers sync.WaitGroup
	var followed, published atomic.Int64
	progress := make(chan struct{}, 1)
	readers.Go(func() {
		_ = client.Follow(ctx, admin.Position{}, func(admin.Position, []byte) error { followed.Add(1); return nil })
	})
	deaf(t, socket)
	for _, target := range pods {
		publishers.Go(func() {
			for ctx.Err() == nil {
				if err := p.publish(target); err != nil {
					t.Errorf("publish while the log is read = %v, want no error", err)
					return
				}
				published.Add(1)
				select {
				case progress <- struct{}{}:
				default:
				}
				if err := p.unpublish(target); err != nil {
					t.Errorf("unpublish while the log is read = %v, want no error", err)
					return
				}
			}
		})
	}
	const enough = 600 // publishes: more than an epoch
	snapshots := 0
	for ; published.Load() < enough && !t.Failed(); snapshots++ {
		snapshotVerifies(t, client)
		select {
		case <-progress: // so each snapshot meets a publish
		case <-time.After(patience):
			t.Error("no publish succeeds any more")
		}
	}
	epochs, err := client.Epochs(t.Context())
	if err != nil || len(epochs) < 2 {
		t.Errorf("Epochs() = %d epochs, %v, want that the log has rolled over", len(epochs), err)
	}
	cancel()
	publishers.Wait()
	readers.Wait()
	if followed.Load() < published.Load() {
		t.Errorf("%d events were followed, of %d publishes alone: the follower was left behind", followed.Load(), published.Load())
	}
	t.Logf("%d publishes during %d snapshots", published.Load(), snapshots)
}

// deaf asks for the whole log and does not read it.
func deaf(t *testing.T, socket string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET /v1/audit/follow HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

func snapshotVerifies(t *testing.T, client *admin.Client) {
	t.Helper()
	dir := t.TempDir()
	if err := client.Snapshot(t.Context(), dir, 64<<20); err != nil {
		t.Errorf("Snapshot() = %v, want no error", err)
		return
	}
	key, err := os.ReadFile(filepath.Join(dir, auditlog.VKeyFileName))
	if err != nil {
		t.Fatal(err)
	}
	report, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: string(key)})
	if err != nil || report.Tail != 0 {
		t.Errorf("Verify(snapshot) = %d unsigned events, %v, want none and no error", report.Tail, err)
	}
}
