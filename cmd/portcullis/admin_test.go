package main_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// node is the part of a plugin that records, and that answers on its admin
// socket.
type node struct {
	decisions map[string]policies.Decision // by their name in stories
	tarball   []byte                       // of the bundle that made the one named replayed
	log       *auditlog.Log
	store     *inputs.Store
	recorder  *audit.Recorder // keeps inputs
	careless  *audit.Recorder // keeps none
	stop      func() error
}

// nodeKey finds the node of a story.
type nodeKey struct{}

// nodeOf returns the node of a story.
func nodeOf(ts *testscript.TestScript) *node {
	n, ok := ts.Value(nodeKey{}).(*node)
	if !ok {
		ts.Fatalf("the story has no node")
	}
	return n
}

// decisions are the denials that stories know by name.
func decisions(t *testing.T) map[string]policies.Decision {
	return map[string]policies.Decision{
		"kept":     policiestest.Deny(t),
		"gone":     policiestest.Deny(t, func(in *policies.Input) { in.Subject.PodName = "api-1" }),
		"replayed": policiestest.Allow(t),
	}
}

// tarballOf is the bundle that policiestest.Allow decides by.
func tarballOf(t *testing.T) []byte {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := bundle.WriteTarball(&archive, b); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// nodeCommands are what stories say to a node.
func nodeCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"start": start, "stop": stop, "record": record, "decide": decide, "holds": holds,
	}
}

// start starts the node, with the state directory node/: start.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: start")
	}
	n := nodeOf(ts)
	dir := ts.MkAbs("node")
	ts.Check(os.Mkdir(dir, 0o700))
	ts.Check(n.open(dir))
	sockets, err := os.MkdirTemp("", "admin") // in the state directory, the path could be too long for a socket
	ts.Check(err)
	path := filepath.Join(sockets, admin.SocketName)
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := hardening.ListenPrivate(ctx, path)
	ts.Check(err)
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, listener, admin.Config{
			Log: n.log, Inputs: admin.Kept{Leaves: n.log.Each, Store: n.store}, Logger: slog.New(slog.DiscardHandler),
			Peer: func(c net.Conn) error { return hardening.CheckPeer(c, []int{os.Geteuid()}) },
		})
	}()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, n.close(), os.RemoveAll(sockets))
	})
	ts.Setenv("SOCKET", path)
	ts.Defer(func() { _ = n.stop() }) // a story may leave it running
}

func (n *node) open(dir string) (err error) {
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: "node-1"}
	n.log, err = auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "audit"), Origin: "test/nodes/node-1", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	if err != nil {
		return err
	}
	if n.store, err = inputs.Open(inputs.Config{Dir: filepath.Join(dir, "audit-inputs"), MaxBytes: 1 << 20, Logger: logger}); err != nil {
		return err
	}
	if n.recorder, err = audit.New(audit.Config{Log: n.log, Inputs: n.store, Logger: logger, Source: source}); err != nil {
		return err
	}
	n.careless, err = audit.New(audit.Config{Log: n.log, Logger: logger, Source: source})
	return err
}

func (n *node) close() error {
	ctx := context.Background()
	return errors.Join(n.recorder.Close(ctx), n.careless.Close(ctx), n.store.Close(), n.log.Close())
}

// stop stops the node: stop.
func stop(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(nodeOf(ts).stop())
}

// record has a refusal recorded: record NAMESPACE POD.
func record(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: record NAMESPACE POD")
	}
	claim := audit.Claim{Namespace: args[0], Pod: args[1], ServiceAccount: "api", PodUID: "11111111-1111-4111-8111-111111111111", Volume: "secrets"}
	ts.Check(nodeOf(ts).recorder.Record(context.Background(), audit.Rejected(claim, audit.ReasonIdentityUnconfirmed)))
}

// decide has a decision recorded: decide kept|gone|replayed. The first is a denial
// of which a bundle is kept that is none, of the second nothing is kept, and the
// third is an allow that can be made again. It sets DECISION and SHA.
func decide(ts *testscript.TestScript, neg bool, args []string) {
	n := nodeOf(ts)
	if neg || len(args) != 1 || n.decisions[args[0]].ID == "" {
		ts.Fatalf("usage: decide kept|gone|replayed")
	}
	d, recorder := n.decisions[args[0]], n.recorder
	switch args[0] {
	case "gone":
		recorder = n.careless
	case "replayed":
		n.store.KeepBundle(d.BundleDigest, n.tarball)
	default:
		n.store.KeepBundle(d.BundleDigest, []byte("a tarball"))
	}
	ts.Check(recorder.Record(context.Background(), audit.Decided(d)))
	ts.Setenv("DECISION", d.ID)
	ts.Setenv("SHA", d.InputSHA256)
	ts.Setenv("BUNDLE", d.BundleDigest)
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
