package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// config is of a log in dir.
func config(dir string) daemon.AuditConfig {
	return daemon.AuditConfig{
		StateDir: dir, Flags: daemon.AuditFlags{RetentionBytes: 2 << 20, EpochBytes: 1 << 20}, Origin: "test/webhooks/one",
		Source: audit.Source{Component: "admission", Version: "v1", Cluster: "test", Node: "one"}, Logger: slog.New(slog.DiscardHandler),
	}
}

// state returns a state directory.
func state(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := daemon.StateDirectory(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// events returns the types of what the log of a stopped process holds.
func events(t *testing.T, dir string) (types []string) {
	t.Helper()
	for _, e := range logged(t, dir) {
		types = append(types, string(e.Type))
	}
	return types
}

// policyEvents returns types and reasons of what it holds of policy.
func policyEvents(t *testing.T, dir string) (found []string) {
	t.Helper()
	for _, e := range logged(t, dir) {
		if strings.HasPrefix(string(e.Type), "policy.") {
			found = append(found, string(e.Type)+" "+string(e.Reason))
		}
	}
	return found
}

func logged(t *testing.T, dir string) (all []audit.Event) {
	t.Helper()
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "audit"), Origin: config(dir).Origin, Boundary: audit.BoundaryLeaf(config(dir).Source, nil), Logger: config(dir).Logger, EpochBytes: 1 << 20, RetentionBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = log.Each(func(_ auditlog.Position, leaf []byte) error {
		var e audit.Event
		if err := json.Unmarshal(leaf, &e); err != nil {
			return err
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The events of a process begin with its start and end with its stop, and its
// successor says what it found.
func TestEventsOfAProcess(t *testing.T) {
	dir := state(t)
	for range 2 {
		a, err := daemon.OpenAudit(config(dir))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(a.Healthy(), a.InputsReady(), a.AdminServed()); err != nil {
			t.Errorf("readiness of a log in operation: %v", err)
		}
		if err := a.Close(audit.ReasonSignal); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(events(t, dir), " ")
	if want := "log.opened driver.start driver.stop log.opened driver.start driver.stop"; got != want {
		t.Errorf("events = %s, want %s", got, want)
	}
}

// Two processes never write to one log.
func TestASecondProcessIsRefused(t *testing.T) {
	dir := state(t)
	first, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.OpenAudit(config(dir)); !errors.Is(err, auditlog.ErrLocked) {
		t.Errorf("a second OpenAudit = %v, want ErrLocked", err)
	}
	if err := first.Close(audit.ReasonSignal); err != nil {
		t.Error(err)
	}
}

// A log that cannot be read stops grants and not the process (promise P8), and
// whoever asks is told why.
func TestADamagedLogStopsGrantsOnly(t *testing.T) {
	t.Parallel() // it waits for an event that nobody takes
	dir := state(t)
	if err := os.MkdirAll(filepath.Join(dir, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "audit", "epoch-0000000001.db"), []byte("not a log"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	a.ServeAdmin(t.Context())
	if _, err := a.Announce(t.Context()); err != nil {
		t.Errorf("Announce() = %v, want nothing", err)
	}
	if a.Healthy() == nil {
		t.Error("Healthy() of a damaged log = nil, want why nothing is granted")
	}
	if err := a.Recorder().Record(t.Context(), audit.DriverStarted()); err == nil {
		t.Error("an event is recorded in a damaged log")
	}
	err = admin.Dial(filepath.Join(dir, admin.SocketName), nil).Snapshot(t.Context(), t.TempDir(), 1<<20)
	if err == nil || !strings.Contains(err.Error(), "node.key") {
		t.Errorf("Snapshot() of a damaged log = %v, want which file it is", err)
	}
	if err := a.Close(audit.ReasonSignal); err == nil {
		t.Error("Close() = nil, want that its stop was not recorded")
	}
}

// The admin socket ends after the last event, and its absence is a warning.
func TestAdminSocket(t *testing.T) {
	dir := state(t)
	a, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if a.ServeAdmin(ctx); a.AdminServed() != nil {
		t.Fatal(a.AdminServed())
	}
	cancel() // the signal that stops a process does not end it
	if _, err := a.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := admin.Dial(filepath.Join(dir, admin.SocketName), nil).Snapshot(t.Context(), t.TempDir(), 8<<20); err != nil {
		t.Errorf("Snapshot() of a process that stops = %v", err)
	}
	if err := a.Close(audit.ReasonSignal); err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(filepath.Join(dir, admin.SocketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, admin.SocketName), 0o700); err != nil {
		t.Fatal(err)
	}
	if a, err = daemon.OpenAudit(config(dir)); err != nil {
		t.Fatal(err)
	}
	if a.ServeAdmin(t.Context()); a.AdminServed() == nil || a.Healthy() != nil {
		t.Errorf("without an admin socket AdminServed() = %v, Healthy() = %v, want a warning alone", a.AdminServed(), a.Healthy())
	}
	if err := a.Close(audit.ReasonSignal); err != nil {
		t.Error(err)
	}
}

// Inputs that cannot be kept are a warning, and a bundle in force is kept.
func TestKeptInputs(t *testing.T) {
	dir := state(t)
	policy := t.TempDir()
	manifest := `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`
	if err := os.WriteFile(filepath.Join(policy, ".manifest"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.LoadDirectory(policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []bool{false, true} {
		if broken {
			if err := os.Chmod(filepath.Join(dir, "audit-inputs"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		a, err := daemon.OpenAudit(config(dir))
		if err != nil {
			t.Fatal(err)
		}
		a.KeepBundle("sha256:"+strings.Repeat("0", 64), b)
		if err := a.InputsReady(); (err != nil) != broken {
			t.Errorf("InputsReady() = %v, want an error: %v", err, broken)
		}
		if err := a.Close(audit.ReasonSignal); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "audit-inputs", "inputs-0000000001.seg"))
	if err != nil || !strings.HasPrefix(string(text), "portcullis-inputs-v1\nb") {
		t.Errorf("kept inputs = %.40q, %v, want the bundle", text, err)
	}
}
