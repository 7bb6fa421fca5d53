package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/node"
	"github.com/portcullis-csi/portcullis/hardening"
)

// logs is the log of a node, served at its admin socket while the test runs.
func logs(t *testing.T, c node.Config) (*auditlog.Log, *audit.Recorder) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: "node1"}
	l, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(c.StateDir, "audit"), Origin: "test/nodes/node1", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := audit.New(audit.Config{Log: l, Logger: logger, Source: source})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := hardening.ListenPrivate(t.Context(), filepath.Join(c.StateDir, admin.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(t.Context(), listener, admin.Config{
			Log: l, Logger: logger, Peer: func(c net.Conn) error { return hardening.CheckPeer(c, []int{os.Geteuid()}) },
		})
	}()
	t.Cleanup(func() {
		if err := errors.Join(<-ended, recorder.Close(context.Background()), l.Close()); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	return l, recorder
}

func TestTheLogOfAPluginThatRuns(t *testing.T) {
	c := place(t)
	c.Probe = 10 * time.Second
	l, recorder := logs(t, c)
	if n := gather(t, c); n.Active.Err != nil || n.Active.Value != "" {
		t.Errorf("Active of a log without a bundle = %+v, want none, and no error", n.Active)
	}
	var digests []string
	for _, letter := range []string{"a", "b"} {
		digests = append(digests, "sha256:"+strings.Repeat(letter, 64))
		if err := recorder.Record(t.Context(), audit.PolicyLoaded(audit.Bundle{Digest: digests[len(digests)-1], Serial: 1, Signed: letter == "b"})); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.RotateKey(t.Context()); err != nil { // which ends an epoch
		t.Fatal(err)
	}
	n := gather(t, c)
	if n.Active != (doctor.Asked[string]{Value: digests[1]}) {
		t.Errorf("Active = %+v, want the later bundle, %s, though its event is in an epoch that has ended", n.Active, digests[1])
	}
	if !n.Signed {
		t.Error("Signed = false, want what the event of the later bundle says")
	}
	if n.Log.Err != nil || len(n.Log.Value) != 2 {
		t.Fatalf("Log = %+v, want two epochs", n.Log)
	}
	ended, open := n.Log.Value[0], n.Log.Value[1]
	if !ended.Closed || ended.Number != 1 || ended.Events < 3 || ended.Bytes <= 0 || open.Closed || open.Number != 2 || open.From.Before(ended.From) {
		t.Errorf("Log = %s, want one of number 1 that has ended, and an open one of number 2", fmt.Sprintf("%+v", n.Log.Value))
	}
}

// What the plugin's log says of itself is repeated, without the hint for other
// commands.
func TestTheLogOfAPluginThatIsAway(t *testing.T) {
	n := gather(t, place(t))
	for what, err := range map[string]error{"Log": n.Log.Err, "Active": n.Active.Err} {
		if err == nil || strings.Contains(err.Error(), "hint: ") || !strings.Contains(err.Error(), admin.SocketName) {
			t.Errorf("%s.Err = %v, want one that names the socket, without a hint", what, err)
		}
	}
}
