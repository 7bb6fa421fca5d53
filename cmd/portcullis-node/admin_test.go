package main_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// snapshot takes one over the admin socket and verifies it: snapshot SOCKET DIR.
// With !, it is refused, and the reason holds the third argument.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 && (!neg || len(args) != 3) {
		ts.Fatalf("usage: snapshot SOCKET DIR, or ! snapshot SOCKET DIR REASON")
	}
	socket, dir := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o700))
	err := admin.Dial(socket, nil).Snapshot(context.Background(), dir, 64<<20)
	if neg {
		if err == nil || !strings.Contains(err.Error(), args[2]) {
			ts.Fatalf("snapshot: %v, want %q", err, args[2])
		}
		return
	}
	ts.Check(err)
	key, err := os.ReadFile(filepath.Join(dir, auditlog.VKeyFileName))
	ts.Check(err)
	report, err := auditlog.Verify(context.Background(), auditlog.VerifyConfig{Path: dir, VKey: string(key)})
	ts.Check(err)
	ts.Logf("%s", report.Verdict())
	if report.Events == 0 || report.Tail != 0 {
		ts.Fatalf("snapshot has %d events, %d of them unsigned", report.Events, report.Tail)
	}
}
