package main_test

import (
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
)

// candidate waits until the report of the candidate, or with ! the error of who asks
// for one, matches: candidate SOCKET REGEXP.
func candidate(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] candidate SOCKET REGEXP")
	}
	client, want := admin.Dial(ts.MkAbs(args[0]), nil), regexp.MustCompile(args[1])
	said := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		report, err := client.Shadow(context.Background())
		switch {
		case err == nil:
			said = string(report)
		case neg:
			said = err.Error()
		default:
			ts.Fatalf("candidate: %v", err)
		}
		if (err != nil) == neg && want.MatchString(said) {
			return
		}
	}
	ts.Fatalf("the plugin says %s", said)
}

// events counts the events of a type in the log of a plugin that runs: events
// SOCKET TYPE COUNT.
func events(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: events SOCKET TYPE COUNT")
	}
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	got := 0
	ts.Check(admin.Dial(ts.MkAbs(args[0]), nil).Read(context.Background(), admin.Position{}, 1000, func(_ admin.Position, leaf []byte) error {
		var e audit.Event
		if err := json.Unmarshal(leaf, &e); err != nil {
			return err
		}
		if string(e.Type) == args[1] {
			got++
		}
		return nil
	}))
	if got != want {
		ts.Fatalf("the log has %d events of type %s, want %d", got, args[1], want)
	}
}
