package main_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// running is the part of a plugin that records and answers on its admin
// socket.
type running struct {
	log      *auditlog.Log
	recorder *audit.Recorder
	stop     func() error
}

type runningKey struct{}

// start starts one whose state directory is node/: start.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: start")
	}
	dir := ts.MkAbs("node")
	ts.Check(os.Mkdir(dir, 0o700))
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: "node-1"}
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "audit"), Origin: "test/nodes/node-1", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	ts.Check(err)
	recorder, err := audit.New(audit.Config{Log: log, Logger: logger, Source: source})
	ts.Check(err)
	// In the directory itself the path could be too long for a socket.
	ctx, cancel := context.WithCancel(context.Background())
	sockets, err := os.MkdirTemp("", "admin")
	ts.Check(err)
	ts.Check(os.Symlink(filepath.Join(sockets, admin.SocketName), filepath.Join(dir, admin.SocketName)))
	listener, err := hardening.ListenPrivate(ctx, filepath.Join(sockets, admin.SocketName))
	ts.Check(err)
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, listener, admin.Config{Log: log, Inputs: keptInputs{}, Logger: logger,
			Peer: func(c net.Conn) error { return hardening.CheckPeer(c, []int{os.Geteuid()}) }})
	}()
	r := &running{log: log, recorder: recorder, stop: func() error {
		cancel()
		return errors.Join(<-ended, recorder.Close(context.Background()), log.Close(), os.RemoveAll(sockets))
	}}
	ts.Setenv("SOCKET", filepath.Join(sockets, admin.SocketName))
	ts.Value(runningKey{}).(*holder).running = r
	ts.Defer(func() { _ = r.stop() }) // a story that failed may leave it running
}

// holder passes what start started on to the other commands.
type holder struct{ running *running }

// record has events recorded: record NAMESPACE POD.
func record(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: record NAMESPACE POD")
	}
	claim := audit.Claim{Namespace: args[0], Pod: args[1], ServiceAccount: "api", PodUID: "11111111-1111-4111-8111-111111111111", Volume: "secrets"}
	ts.Check(ts.Value(runningKey{}).(*holder).running.recorder.Record(context.Background(), audit.Rejected(claim, audit.ReasonIdentityUnconfirmed)))
}

// holds waits until a file holds something: holds FILE REGEXP.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: holds FILE REGEXP")
	}
	want := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && want.Match(text) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s holds %q, %v; want %q", args[0], text, err, args[1])
		}
	}
}

// keptInputs has one decision whose input is kept, and one whose is not.
type keptInputs struct{}

const (
	keptInput  = `{"contract":"portcullis/v1","phase":"mount"}`
	keptSHA    = "4a6d4a5e9a4ee4a6b1b0f63b2e0dbb0a47ab9f4d2b1b8a6d2d2a7c66a2f1d5c3" // not its own: damaged
	goneSHA    = "0000000000000000000000000000000000000000000000000000000000000000"
	keptDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

func (keptInputs) Recorded(_ context.Context, f func(policies.Recorded) error) error {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return errors.Join(
		f(policies.Recorded{Time: at, EventID: "a", DecisionID: "AAAAAAAAAAAAAAAAAAAAAAAAAA", Effect: "deny", InputSHA256: goneSHA}),
		f(policies.Recorded{Time: at.Add(time.Hour), EventID: "b", DecisionID: "BBBBBBBBBBBBBBBBBBBBBBBBBB", Effect: "allow", InputSHA256: keptSHA, Input: []byte(keptInput)}),
	)
}

func (keptInputs) Input(sha string) ([]byte, error) {
	if sha == keptSHA {
		return []byte(keptInput), nil
	}
	return nil, fmt.Errorf("input: %w", admin.ErrNotKept)
}

func (keptInputs) Bundle(digest string) ([]byte, error) {
	if digest == keptDigest {
		return []byte("tarball"), nil
	}
	return nil, fmt.Errorf("bundle: %w", admin.ErrNotKept)
}
