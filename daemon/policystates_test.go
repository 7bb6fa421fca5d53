package daemon_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// process is a program with policy and a log.
type process struct {
	*daemon.Policy

	dir   string
	audit *daemon.Audit
	said  *words
}

// begin starts a process in a state directory, which may be that of an earlier one.
func begin(t *testing.T, dir string, change func(*daemon.PolicyConfig), args ...string) process {
	t.Helper()
	a, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	said := &words{}
	c := daemon.PolicyConfig{Flags: flags(t, args...), StateDir: dir, Audit: a, Logger: slog.New(slog.NewTextHandler(said, nil)), Version: "v1"}
	if change != nil {
		change(&c)
	}
	p, err := daemon.OpenPolicy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return process{p, dir, a, said}
}

// end stops it, and returns what its log says of policy.
func (p process) end(t *testing.T) []string {
	t.Helper()
	if err := errors.Join(p.Close(), p.audit.Close(audit.ReasonSignal)); err != nil {
		t.Error(err)
	}
	return policyEvents(t, p.dir)
}

// says compares what readiness says with parts of it; "" stands for nothing.
func (p process) says(t *testing.T, ready, good, floor string) {
	t.Helper()
	for _, c := range []struct {
		name string
		got  error
		want string
	}{{"Ready", p.Ready(), ready}, {"Good", p.Good(), good}, {"FloorKept", p.FloorKept(), floor}} {
		if (c.got == nil) != (c.want == "") || c.got != nil && !strings.Contains(c.got.Error(), c.want) {
			t.Errorf("%s() = %v, want %q", c.name, c.got, c.want)
		}
		if c.got != nil && (strings.Contains(c.got.Error(), "\n") || strings.Count(c.got.Error(), "hint:") > 1) {
			t.Errorf("%s() = %q, want one line with one hint", c.name, c.got)
		}
	}
}

// decides is what the bundle in force says now of a request that it grants.
func (p process) decides(t *testing.T) policies.Decision {
	t.Helper()
	return p.Active().Decide(t.Context(), policiestest.Input(func(in *policies.Input) { in.NowNS = time.Now().UnixNano() }))
}

const noFloor = "there is no cluster floor"

func TestReadinessOfUnsignedPolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	publishCandidate(t, path, "1", policiestest.Grants)
	refused := state(t)
	a, err := daemon.OpenAudit(config(refused))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.OpenPolicy(t.Context(), daemon.PolicyConfig{Flags: flags(t, "--policy="+path), StateDir: refused, Audit: a, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, bundle.ErrUnsigned) {
		t.Errorf("OpenPolicy() of unsigned policy without leave = %v, want ErrUnsigned", err)
	}
	if err := a.Close(audit.ReasonFatalError); err != nil {
		t.Error(err)
	}
	if got := policyEvents(t, refused); !slices.Equal(got, []string{"policy.load_failed BundleUnsigned"}) {
		t.Errorf("events = %q, want that the bundle is unsigned", got)
	}
	leave := func(c *daemon.PolicyConfig) { c.AllowUnsigned = true }
	p := begin(t, state(t), leave, "--policy="+path)
	p.says(t, "", "", "")
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.Reload(t.Context()) == nil {
		t.Error("a broken bundle is loaded")
	}
	p.says(t, "", "(in force: serial 1, ", "")
	if d := p.decides(t); d.Verdict() != policies.VerdictAllow {
		t.Errorf("after a broken bundle the last good one says %v, want allow", d.Verdict())
	}
	if _, err := os.Stat(filepath.Join(p.dir, "policy")); !os.IsNotExist(err) {
		t.Errorf("unsigned policy is kept: %v", err)
	}
	if got := p.end(t); !slices.Equal(got, []string{"policy.change ", "policy.load_failed BundleUnreadable"}) && !slices.Equal(got, []string{"policy.change ", "policy.load_failed BundleInvalid"}) {
		t.Errorf("events = %q", got)
	}
	p = begin(t, state(t), leave, "--policy="+path)
	defer p.end(t)
	p.says(t, "no active policy bundle: ", "load policy bundle", "")
	if p.Active() != nil {
		t.Error("a broken bundle is in force")
	}
}

// Each refusal of a first bundle grants nothing, and is told with its reason in
// events, metrics and readiness.
func TestP10FirstBundlesThatAreRefused(t *testing.T) {
	signer, stranger := signaturetest.NewSigner(t), signaturetest.NewSigner(t)
	for name, tt := range map[string]struct {
		make   func(t *testing.T, file string)
		args   []string
		event  string
		reason bundle.Reason
	}{
		"not there":      {func(*testing.T, string) {}, nil, "BundleUnreadable", bundle.ReasonUnreadable},
		"wrong key":      {func(t *testing.T, file string) { publish(t, file, stranger, "5", time.Hour) }, nil, "BundleUntrusted", bundle.ReasonUntrusted},
		"no signature":   {func(t *testing.T, file string) { publishCandidate(t, file, "5", policiestest.Grants) }, nil, "BundleUnsigned", bundle.ReasonUnsigned},
		"below the flag": {func(t *testing.T, file string) { publish(t, file, signer, "5", time.Hour) }, []string{"--policy-min-serial=6"}, "BundleRollback", bundle.ReasonSerial},
		"over":           {func(t *testing.T, file string) { publish(t, file, signer, "5", -time.Hour) }, nil, "BundleExpired", bundle.ReasonExpired},
		"one of two":     {func(t *testing.T, file string) { publish(t, file, signer, "5", time.Hour) }, []string{"--policy-signatures=2", "--policy-key=" + keyFile(t, stranger)}, "BundleUntrusted", bundle.ReasonUntrusted},
		"no API server":  {func(t *testing.T, file string) { publish(t, file, signer, "5", time.Hour) }, []string{"--policy-floor=security/floor"}, "FloorUnreadable", bundle.ReasonFloor},
		"other content": {func(t *testing.T, file string) {
			publish(t, file, signer, "5", time.Hour)
			publishCandidate(t, file, "7", policiestest.Grants)
		}, nil, "BundleUntrusted", bundle.ReasonUntrusted},
		"day to day": {func(t *testing.T, file string) { publish(t, file, stranger, "5", 24*time.Hour) }, []string{"--policy-break-glass-key=" + keyFile(t, stranger)}, "BreakGlassUsed", bundle.ReasonBreakGlass},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bundle.tar.gz")
			tt.make(t, file)
			p := begin(t, state(t), nil, append([]string{"--policy=" + file, "--policy-key=" + keyFile(t, signer)}, tt.args...)...)
			if p.Active() != nil || p.Ready() == nil || !strings.Contains(p.Ready().Error(), "no active policy bundle: ") || p.Good() == nil {
				t.Errorf("Active() = %v, Ready() = %v, Good() = %v, want nothing in force and both errors", p.Active(), p.Ready(), p.Good())
			}
			if n := strings.Count(p.Ready().Error(), "hint:"); n != 1 {
				t.Errorf("Ready() = %v, want one hint", p.Ready())
			}
			text := scrape(t, p.Policy)
			if want := `reason="` + string(tt.reason) + `"} 1`; !strings.Contains(text, want) || strings.Contains(text, "portcullis_policy_bundle_info{") {
				t.Errorf("metrics lack %q, or have a bundle in force:\n%s", want, text)
			}
			if got := p.end(t); !slices.Equal(got, []string{"policy.load_failed " + tt.event}) {
				t.Errorf("events = %q, want %s", got, tt.event)
			}
		})
	}
}

// TestP10AfterARestart: what was kept decides where the source is gone, the floor of
// what was in force stays, and a fallback is told as such.
func TestP10AfterARestart(t *testing.T) {
	dir, file, fallback := state(t), filepath.Join(t.TempDir(), "bundle.tar.gz"), filepath.Join(t.TempDir(), "fallback.tar.gz")
	signer := signaturetest.NewSigner(t)
	args := []string{"--policy=" + file, "--policy-key=" + keyFile(t, signer), "--policy-fallback=" + fallback}
	publish(t, file, signer, "5", time.Hour)
	begin(t, dir, nil, args...).end(t)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p := begin(t, dir, nil, args...)
	p.says(t, "", "from the store", noFloor)
	if d := p.decides(t); d.Verdict() != policies.VerdictAllow || !p.Active().Signed() {
		t.Errorf("what was kept says %v, want allow", d.Verdict())
	}
	publish(t, file, signer, "4", time.Hour)
	if err := p.Reload(t.Context()); bundle.ReasonOf(err) != bundle.ReasonSerial {
		t.Errorf("Reload(serial 4) after a restart = %v, want it refused", err)
	}
	p.end(t)

	// Another key: what was kept is not trusted any more, nor is the fallback of the old one.
	other := signaturetest.NewSigner(t)
	args[1] = "--policy-key=" + keyFile(t, other)
	publish(t, fallback, signer, "6", time.Hour)
	p = begin(t, dir, nil, args...)
	p.says(t, "no active policy bundle: ", "signed, but by none of the keys given", noFloor)
	p.end(t)
	publish(t, fallback, other, "7", time.Hour)
	p = begin(t, dir, nil, args...)
	p.says(t, "", "serial 7", noFloor)
	if !strings.Contains(p.Good().Error(), "from the fallback") || !strings.Contains(scrape(t, p.Policy), `origin="fallback"`) {
		t.Errorf("Good() = %v, want that it is the fallback", p.Good())
	}
	publish(t, file, other, "8", time.Hour)
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.says(t, "", "", noFloor)
	got := p.end(t)
	if i := slices.Index(got, "policy.change BundleFallback"); i < 0 || got[len(got)-1] != "policy.change " {
		t.Errorf("events = %q, want the fallback, and at the end another bundle", got)
	}
}

// TestP10AnEmergencyEndsByItself: nobody looks at the source, and no request comes.
func TestP10AnEmergencyEndsByItself(t *testing.T) {
	dir, file := state(t), filepath.Join(t.TempDir(), "bundle.tar.gz")
	signer, emergency := signaturetest.NewSigner(t), signaturetest.NewSigner(t)
	publish(t, file, signer, "5", time.Hour)
	changed := make(chan bundle.Report, 10)
	p := begin(t, dir, func(c *daemon.PolicyConfig) { c.Reported = func(r bundle.Report) { changed <- r } },
		"--policy="+file, "--policy-key="+keyFile(t, signer), "--policy-break-glass-key="+keyFile(t, emergency))
	regular := p.Active().Digest()
	publish(t, file, emergency, "1", 3*time.Second)
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !p.Active().BreakGlass() || p.Active().Digest() == regular {
		t.Fatal("the emergency's bundle is not in force")
	}
	if r := <-changed; r.Change != bundle.ChangeLoaded {
		t.Errorf("first report is %q, want loaded", r.Change)
	}
	if r := <-changed; r.Change != bundle.ChangeBreakGlass {
		t.Errorf("second report is %q, want break_glass", r.Change)
	}
	select {
	case r := <-changed:
		if r.Change != bundle.ChangeBreakGlassEnded || r.Active != regular || p.Active().BreakGlass() {
			t.Errorf("after the end: %+v, want the bundle of before", r)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the emergency goes on after its end")
	}
	if !strings.Contains(scrape(t, p.Policy), "portcullis_policy_break_glass{") || p.Ready() != nil {
		t.Errorf("Ready() = %v, want the bundle of before", p.Ready())
	}
	// Its serial is used up, however long the next one lasts.
	publish(t, file, emergency, "1", time.Hour)
	if err := p.Reload(t.Context()); bundle.ReasonOf(err) != bundle.ReasonBreakGlass {
		t.Errorf("Reload() of the same emergency = %v, want it refused", err)
	}
	want := []string{"policy.change ", "policy.change BreakGlass", "policy.change BreakGlassEnded", "policy.load_failed BreakGlassUsed"}
	if got := p.end(t); !slices.Equal(got, want) {
		t.Errorf("events = %q, want %q", got, want)
	}
}

// TestP10ABundleEndsByItself: at not_after, though nobody looks, and it is unready.
func TestP10ABundleEndsByItself(t *testing.T) {
	file, signer := filepath.Join(t.TempDir(), "bundle.tar.gz"), signaturetest.NewSigner(t)
	publish(t, file, signer, "5", 3*time.Second)
	p := begin(t, state(t), nil, "--policy="+file, "--policy-key="+keyFile(t, signer))
	defer p.end(t)
	if d := p.decides(t); d.Verdict() != policies.VerdictAllow {
		t.Fatalf("before its end it says %v", d.Verdict())
	}
	for end := time.Now().Add(10 * time.Second); p.Ready() == nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	p.says(t, "policy bundle with serial 5 ended at ", "", noFloor)
	if d := p.decides(t); d.Verdict() != policies.VerdictError {
		t.Errorf("after its end it says %v, want error: a deny would revoke", d.Verdict())
	}
}

// A change of policy that arrives while the process ends is in its log, and nothing
// is reported any more once policy is closed: the log is closed after it.
func TestNothingIsReportedAfterTheEnd(t *testing.T) {
	file, signer := filepath.Join(t.TempDir(), "bundle.tar.gz"), signaturetest.NewSigner(t)
	publish(t, file, signer, "5", time.Hour)
	let, reported := make(chan struct{}), make(chan bundle.Report, 8)
	p := begin(t, state(t), func(c *daemon.PolicyConfig) {
		c.Reported = func(r bundle.Report) {
			reported <- r
			if r.Manifest.Serial == 6 {
				<-let
			}
		}
	}, "--policy="+file, "--policy-key="+keyFile(t, signer))
	<-reported
	running := make(chan error, 1)
	go func() { running <- p.Run(t.Context(), time.Hour) }()
	publish(t, file, signer, "6", time.Hour)
	p.Trigger()
	for (<-reported).Manifest.Serial != 6 { // the file may be seen without its signature
		p.Trigger()
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close() = %v while a change is reported, want it to wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(let)
	if err := errors.Join(<-closed, <-running); err != nil {
		t.Error(err)
	}
	if err := p.Reload(t.Context()); err == nil || len(reported) != 0 {
		t.Errorf("Reload() after the end = %v, %d reports, want an error and none", err, len(reported))
	}
	if err := p.audit.Close(audit.ReasonSignal); err != nil {
		t.Error(err)
	}
	if got := policyEvents(t, p.dir); len(got) < 2 || got[len(got)-1] != "policy.change " {
		t.Errorf("events = %q, want the change to serial 6 last", got)
	}
}
