package log_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// crashDir tells the test binary that it is the process to be killed.
const crashDir = "AUDITLOG_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		os.Exit(appendUntilKilled(dir))
	}
	os.Exit(plugintest.Main(m)) // some mount a small disk
}

// appendUntilKilled prints the id of each event once it is acknowledged.
func appendUntilKilled(dir string) int {
	l, err := auditlog.Open(auditlog.Config{Dir: dir, Origin: origin, EpochBytes: 1 << 20, CheckpointEvery: 10 * time.Millisecond, Boundary: boundaries(time.Now), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var group sync.WaitGroup
	for p := range 16 {
		group.Go(func() {
			for i := range 100_000 {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), p, i)
				if _, err := l.Append(context.Background(), fmt.Appendf(nil, `{"id":%q,"time":"2026-01-15T12:00:00Z","pad":%q}`, id, strings.Repeat("x", 4000))); err != nil {
					return
				}
				fmt.Println(id) // one write, so that lines of goroutines do not mix
			}
		})
	}
	group.Wait()
	return 0
}

// TestP7KillLosesNothing kills a process that appends from sixteen sides, time
// after time, over roll-overs: every event that it had acknowledged is there,
// and the log verifies each time.
func TestP7KillLosesNothing(t *testing.T) {
	c := config(t)
	c.EpochBytes = 1 << 20
	acknowledged := map[string]bool{}
	const kills = 20
	for round := range kills {
		for _, id := range killed(t, c.Dir, 50+11*(round%7)) {
			acknowledged[id] = true
		}
		l := open(t, c) // a tail that the crash left is signed
		if o := l.Opening(); o.Lost || o.Created || len(o.Missing) > 0 {
			t.Errorf("Opening() after kill %d = %+v, want nothing lost", round, o)
		}
		closeLog(t, l)
		stored := map[string]bool{}
		for _, text := range verifiedAll(t, c.Dir) {
			_, rest, _ := strings.Cut(text, `"id":"`)
			id, _, _ := strings.Cut(rest, `"`)
			stored[id] = true
		}
		for id := range acknowledged {
			if !stored[id] {
				t.Fatalf("event %s was acknowledged and is lost after kill %d", id, round)
			}
		}
	}
	l := open(t, c)
	if n := len(epochs(t, l)); n < 3 || len(acknowledged) < 1000 {
		t.Errorf("%d events were acknowledged in %d epochs, want at least 1000 and 3 for this to prove anything", len(acknowledged), n)
	}
}

// killed runs the test binary as a process that appends, kills it after so many
// acknowledged events, while it goes on, and returns those it acknowledged.
func killed(t *testing.T, dir string, after int) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		ids = append(ids, lines.Text())
		if len(ids) == after {
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err == nil || len(ids) == 0 {
		t.Fatalf("the process ended by itself after %d events: %v", len(ids), err)
	}
	return ids
}
