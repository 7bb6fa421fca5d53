package main_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"portcullis": func() { os.Exit(portcullis.Run(os.Args[1:])) },
	})
}

// TestScripts plays the user stories of testdata/script. Each finds in log/ an
// audit log of four events whose plugin has stopped, the third of which is a
// denial, and in log/checkpoint its last signed checkpoint. The condition race
// holds under the race detector: what a command does with one goroutine only, it
// would make twenty times as slow and see nothing of.
func TestScripts(t *testing.T) {
	known, tarball := decisions(t), tarballOf(t)
	commands := nodeCommands()
	commands["flip"], commands["truncate"] = flip, truncate
	maps.Copy(commands, registryCommands())
	maps.Copy(commands, workflowCommands())
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Values[nodeKey{}] = &node{decisions: known, tarball: tarball}
			return writeLog(e.Getenv("WORK"))
		},
		Condition:          condition,
		RequireUniqueNames: true,
		Cmds:               commands,
	})
}

func condition(name string) (bool, error) {
	if name != "race" {
		return false, fmt.Errorf("condition %q, want race", name)
	}
	return underRace, nil
}

func writeLog(work string) (err error) {
	dir := filepath.Join(work, "log")
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: "node-1"}
	log, err := auditlog.Open(auditlog.Config{Dir: dir, Origin: "test/nodes/node-1", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	recorder, err := audit.New(audit.Config{Log: log, Logger: logger, Source: source})
	if err != nil {
		return err
	}
	claim := audit.Claim{Namespace: "payments", Pod: "api-0", ServiceAccount: "api", PodUID: "11111111-1111-4111-8111-111111111111", Volume: "secrets"}
	for _, e := range []audit.Event{audit.DriverStarted(), audit.Rejected(claim, audit.ReasonIdentityUnconfirmed), audit.Unmounted(claim, "")} {
		if err := recorder.Record(context.Background(), e); err != nil {
			return err
		}
	}
	checkpoint, err := log.Checkpoint()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "checkpoint"), checkpoint, 0o600), recorder.Close(context.Background()))
}

// flip changes a word in a file into one of the same length: flip FILE OLD NEW.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[1]) != len(args[2]) {
		ts.Fatalf("usage: flip FILE OLD NEW, words of the same length")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	changed := []byte(nil)
	for i := range text {
		if i+len(args[1]) <= len(text) && string(text[i:i+len(args[1])]) == args[1] {
			changed = append(append(append(changed, text[:i]...), args[2]...), text[i+len(args[1]):]...)
			break
		}
	}
	if changed == nil {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, changed, 0o600))
}

// truncate cuts a file to its first pages: bbolt makes files longer than it
// needs, so half of one may be all of it.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: truncate FILE")
	}
	ts.Check(os.Truncate(ts.MkAbs(args[0]), 3*int64(os.Getpagesize())))
}
