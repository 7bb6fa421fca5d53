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
)

// crashDir tells the test binary that it is the process to be killed.
const crashDir = "AUDITLOG_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		os.Exit(appendUntilKilled(dir))
	}
	os.Exit(m.Run())
}

// appendUntilKilled prints the id of each event once it is acknowledged.
func appendUntilKilled(dir string) int {
	l, err := auditlog.Open(auditlog.Config{Dir: dir, Origin: origin, CheckpointEvery: 10 * time.Millisecond, Boundary: boundaries(time.Now), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var group sync.WaitGroup
	for p := range 8 {
		group.Go(func() {
			for i := range 100_000 {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), p, i)
				if _, err := l.Append(context.Background(), fmt.Appendf(nil, `{"id":%q,"time":"2026-01-15T12:00:00Z","pad":%q}`, id, strings.Repeat("x", 500))); err != nil {
					return
				}
				fmt.Println(id) // one write, so that lines of goroutines do not mix
			}
		})
	}
	group.Wait()
	return 0
}

// TestP7KillLosesNothing kills a process that appends, time after time: every
// event that it had acknowledged is there, and the log verifies.
func TestP7KillLosesNothing(t *testing.T) {
	c := config(t)
	c.CheckpointEvery = time.Hour
	var acknowledged []string
	for round := range 5 {
		acknowledged = append(acknowledged, killed(t, c.Dir, time.Duration(40+20*round)*time.Millisecond)...)
	}
	l := open(t, c)
	stored := map[string]bool{}
	for _, text := range leaves(t, l) {
		_, rest, _ := strings.Cut(text, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		stored[id] = true
	}
	for _, id := range acknowledged {
		if !stored[id] {
			t.Errorf("event %s was acknowledged and is lost", id)
		}
	}
	if len(acknowledged) < 100 {
		t.Errorf("%d events were acknowledged, want at least 100 for this to prove anything", len(acknowledged))
	}
	closeLog(t, l)
	if r := verified(t, c.Dir); r.Events < int64(len(acknowledged)) {
		t.Errorf("Verify().Events = %d, want at least %d", r.Events, len(acknowledged))
	}
}

// killed runs the test binary as a process that appends, kills it some time
// after its first acknowledged event, and returns those it acknowledged.
func killed(t *testing.T, dir string, after time.Duration) []string {
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
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		ids = append(ids, lines.Text())
		once.Do(func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) })
	}
	if err := cmd.Wait(); err == nil || len(ids) == 0 {
		t.Fatalf("the process ended by itself after %d events: %v", len(ids), err)
	}
	return ids
}
