package daemon_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// flags parses the flags of policy.
func flags(t *testing.T, args ...string) daemon.PolicyFlags {
	t.Helper()
	var o daemon.PolicyFlags
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.Add(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPolicyFlagsThatDoNotFit(t *testing.T) {
	for name, tt := range map[string]struct {
		args     []string
		unsigned bool
		want     string // "": nothing is wrong
	}{
		"nothing":              {nil, true, "--policy is missing"},
		"nobody trusted":       {[]string{"--policy=p"}, false, "nobody is trusted"},
		"development":          {[]string{"--policy=p"}, true, ""},
		"a key":                {[]string{"--policy=p", "--policy-key=k"}, false, ""},
		"registry, no key":     {[]string{"--policy=oci://r.example/p"}, true, "for signed policy"},
		"registry":             {[]string{"--policy=oci://r.example/p:1", "--policy-key=k"}, false, ""},
		"no registry":          {[]string{"--policy=oci://", "--policy-key=k"}, false, "--policy: "},
		"floor":                {[]string{"--policy=p", "--policy-key=k", "--policy-floor=a"}, false, "NAMESPACE/NAME"},
		"negative serial":      {[]string{"--policy=p", "--policy-key=k", "--policy-min-serial=-1"}, false, "negative"},
		"no signatures":        {[]string{"--policy=p", "--policy-key=k", "--policy-signatures=0"}, false, "1 or more"},
		"unsigned fallback":    {[]string{"--policy=p", "--policy-fallback=f"}, true, "for signed policy"},
		"never looks":          {[]string{"--policy=p", "--policy-key=k", "--policy-poll-interval=0"}, false, "positive"},
		"unsigned breakglass":  {[]string{"--policy=p", "--policy-break-glass-key=f"}, true, "for signed policy"},
		"unsigned root":        {[]string{"--policy=p", "--policy-trusted-root=r"}, true, "--policy-trusted-root is for signed policy"},
		"unsigned serial":      {[]string{"--policy=p", "--policy-min-serial=5"}, true, "--policy-min-serial is for signed policy"},
		"unsigned floor":       {[]string{"--policy=p", "--policy-floor=a/b"}, true, "--policy-floor is for signed policy"},
		"unsigned threshold":   {[]string{"--policy=p", "--policy-signatures=2"}, true, "--policy-signatures is for signed policy"},
		"unsigned registry":    {[]string{"--policy=p", "--policy-registry-config=c"}, true, "--policy-registry-config is for signed policy"},
		"all of signed policy": {[]string{"--policy=p", "--policy-key=k", "--policy-min-serial=5", "--policy-floor=a/b", "--policy-signatures=1", "--policy-fallback=f", "--policy-break-glass-key=f"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := flags(t, tt.args...)
			err := o.Check(tt.unsigned, "help")
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check(%v) = %v, want %q", tt.args, err, tt.want)
			}
		})
	}
}

// publish puts a signed bundle into a file.
func publish(t *testing.T, path string, s signaturetest.Signer, serial string, life time.Duration) {
	t.Helper()
	end := time.Now().Add(life).UTC().Format(time.RFC3339)
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":`+serial+`,"not_after":"`+end+`"}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.WriteFile(path, b, true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signed := signaturetest.Sign(t, s, signature.Artifact{Tarball: text}, signature.FormatBundle)
	if err := os.WriteFile(path+".sigstore.json", signed.Bundle, 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyFile(t *testing.T, s signaturetest.Signer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cosign.pub")
	if err := os.WriteFile(path, s.Key().PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestP10SignedPolicyOfAProcess: from flags to events, readiness and metrics.
func TestP10SignedPolicyOfAProcess(t *testing.T) {
	dir, file := state(t), filepath.Join(t.TempDir(), "bundle.tar.gz")
	signer, emergency := signaturetest.NewSigner(t), signaturetest.NewSigner(t)
	publish(t, file, signer, "5", 24*time.Hour)
	a, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	c := daemon.PolicyConfig{
		Flags:    flags(t, "--policy="+file, "--policy-key="+keyFile(t, signer), "--policy-break-glass-key="+keyFile(t, emergency)),
		StateDir: dir, Audit: a, Logger: slog.New(slog.DiscardHandler), Version: "v1",
	}
	p, err := daemon.OpenPolicy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if p.Ready() != nil || p.Good() != nil || p.FloorKept() == nil {
		t.Errorf("Ready() = %v, Good() = %v, FloorKept() = %v, want a warning about the floor alone", p.Ready(), p.Good(), p.FloorKept())
	}
	publish(t, file, signer, "4", 24*time.Hour)
	if err := p.Reload(t.Context()); bundle.ReasonOf(err) != bundle.ReasonSerial || p.Ready() != nil || !strings.Contains(p.Good().Error(), "in force: serial 5") {
		t.Errorf("Reload(serial 4) = %v, Good() = %v, want serial 5 in force", err, p.Good())
	}
	publish(t, file, emergency, "1", time.Hour)
	if err := p.Reload(t.Context()); err != nil || !strings.Contains(p.Good().Error(), "BREAK-GLASS") {
		t.Errorf("Reload(break-glass) = %v, Good() = %v", err, p.Good())
	}
	if d := p.Active().Decide(t.Context(), policiestest.Input(func(in *policies.Input) { in.NowNS = time.Now().UnixNano() })); !d.BreakGlass || audit.Decided(d).Severity != audit.SeverityCritical || !audit.Decided(d).Policy.BreakGlass {
		t.Errorf("event of a decision in an emergency = %+v, want critical and breakGlass", audit.Decided(d))
	}
	text := scrape(t, p)
	for _, want := range []string{`portcullis_policy_break_glass{`, `reason="serial"`, `serial="1"`, `portcullis_policy_bundle_not_after_seconds{`} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(audit.ReasonSignal); err != nil {
		t.Error(err)
	}
	got := events(t, dir)
	changes := slices.DeleteFunc(got, func(e string) bool { return !strings.HasPrefix(e, "policy.") })
	if want := "policy.change policy.load_failed policy.change"; strings.Join(changes, " ") != want {
		t.Errorf("events = %v, want %s", changes, want)
	}
}

func scrape(t *testing.T, p *daemon.Policy) string {
	t.Helper()
	meter, handler, err := daemon.Meter(daemon.Metering{Scope: "test", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Measure(meter); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestP10KeysAreDisjoint: who signs every day cannot pass the floor.
func TestP10KeysAreDisjoint(t *testing.T) {
	dir, key := state(t), keyFile(t, signaturetest.NewSigner(t))
	_, err := daemon.OpenPolicy(t.Context(), daemon.PolicyConfig{
		Flags: flags(t, "--policy=x", "--policy-key="+key, "--policy-break-glass-key="+key), StateDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.Contains(err.Error(), "both key:") {
		t.Errorf("OpenPolicy() = %v, want it refused", err)
	}
}
