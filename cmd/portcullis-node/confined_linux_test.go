package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// privileges looks at every thread of the process that was started last:
// privileges CAPABILITIES. They are what the thread may ever have.
func privileges(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: privileges CAPABILITIES")
	}
	started := ts.BackgroundCmds()
	if len(started) == 0 {
		ts.Fatalf("no process was started")
	}
	pid := started[len(started)-1].Process.Pid
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	ts.Check(err)
	if len(threads) < 3 {
		ts.Fatalf("process %d has %d threads, which cannot be all", pid, len(threads))
	}
	const none = "0000000000000000"
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		ts.Check(err)
		for field, want := range map[string]string{
			"CapInh": none, "CapPrm": args[0], "CapEff": args[0], "CapBnd": args[0], "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if line := "\n" + field + ":\t" + want + "\n"; !strings.Contains(string(status), line) {
				ts.Fatalf("%s is not %s in a thread of process %d:\n%s", field, want, pid, status)
			}
		}
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	ts.Check(err)
	if got := strings.TrimSpace(string(comm)); got != "portcullis-node" {
		ts.Fatalf("ps shows %q, want portcullis-node", got)
	}
}

// build makes the tarball of a policy directory: build DIR FILE.
func build(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: build DIR FILE")
	}
	b, err := bundle.LoadDirectory(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(bundle.WriteFile(ts.MkAbs(args[1]), b, false))
}
