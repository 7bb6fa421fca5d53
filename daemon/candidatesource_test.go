package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// candidateOf opens the source of --policy-shadow.
func candidateOf(t *testing.T, args ...string) *bundle.Source {
	t.Helper()
	o := flags(t, args...)
	c, err := o.CandidateSource("v1", false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := bundle.NewSource(c.Source)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestP10ACandidateIsSignedToo: it is never in force, and yet its modules run. Who
// may not sign policy, or only in an emergency, does not get them to run.
func TestP10ACandidateIsSignedToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "next.tar.gz")
	signer, emergency := signaturetest.NewSigner(t), signaturetest.NewSigner(t)
	s := candidateOf(t, "--policy=none", "--policy-shadow="+file, "--policy-key="+keyFile(t, signer), "--policy-break-glass-key="+keyFile(t, emergency))
	refused := func(name string, want bundle.Reason) {
		t.Helper()
		before := s.Active().Digest()
		if err := s.Reload(t.Context()); bundle.ReasonOf(err) != want || s.Active().Digest() != before {
			t.Errorf("%s: Reload() = %v, digest %q, want %s and %q", name, err, s.Active().Digest(), want, before)
		}
	}
	refused("not there", bundle.ReasonUnreadable)
	publish(t, file, signaturetest.NewSigner(t), "5", time.Hour)
	refused("wrong key", bundle.ReasonUntrusted)
	publish(t, file, emergency, "5", time.Hour)
	refused("key for emergencies", bundle.ReasonUntrusted)
	publish(t, file, signer, "5", time.Hour)
	if err := s.Reload(t.Context()); err != nil || !s.Active().Signed() {
		t.Fatalf("Reload() = %v, want the candidate", err)
	}
	signed, err := os.ReadFile(file + ".sigstore.json")
	if err != nil {
		t.Fatal(err)
	}
	publishCandidate(t, file, "6", policiestest.Grants)
	refused("the signature of another one", bundle.ReasonUntrusted)
	if err := os.Remove(file + ".sigstore.json"); err != nil {
		t.Fatal(err)
	}
	refused("no signature", bundle.ReasonUnsigned)
	if err := os.WriteFile(file+".sigstore.json", bytes.Repeat(signed, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("twice the signature", bundle.ReasonUntrusted)
	// A lower serial is a candidate too: it has no floor, since it is not in force.
	publish(t, file, signer, "4", time.Hour)
	if err := s.Reload(t.Context()); err != nil || s.Active().Manifest().Serial != 4 {
		t.Errorf("Reload(serial 4) = %v, serial %d, want it compared", err, s.Active().Manifest().Serial)
	}
}

// registryOf serves one signed bundle, and counts what is asked.
func registryOf(t *testing.T, artifact func() signature.Artifact) (host string, manifests, blobs *atomic.Int64) {
	t.Helper()
	manifests, blobs = new(atomic.Int64), new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := artifact()
		switch {
		case r.URL.Path == "/v2/":
		case strings.HasSuffix(r.URL.Path, "/manifests/prod"), strings.HasSuffix(r.URL.Path, "/manifests/"+signaturetest.Digest(a.Manifest)):
			if r.Method == http.MethodGet {
				manifests.Add(1)
			}
			w.Header().Set("Content-Type", signature.ManifestMediaType)
			w.Header().Set("Docker-Content-Digest", signaturetest.Digest(a.Manifest))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.Manifest))
		case strings.HasSuffix(r.URL.Path, "/blobs/"+signaturetest.Digest(a.Tarball)):
			blobs.Add(1)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.Tarball))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), manifests, blobs
}

// A registry is asked for a digest at each look, and for the bundle once; and one
// that nobody signed is not taken from it, however often.
func TestACandidateOfARegistryWithoutSignature(t *testing.T) {
	path := filepath.Join(t.TempDir(), "next.tar.gz")
	publishCandidate(t, path, "3", policiestest.Grants)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := signaturetest.Forms()[len(signaturetest.Forms())-1].Artifact(text)
	a.Manifest = signaturetest.Manifest(text)
	host, manifests, blobs := registryOf(t, func() signature.Artifact { return a })
	s := candidateOf(t, "--policy=none", "--policy-shadow=oci://"+host+"/security/policy:prod", "--policy-key="+keyFile(t, signaturetest.NewSigner(t)))
	for range 2 {
		if err := s.Reload(t.Context()); bundle.ReasonOf(err) != bundle.ReasonUnsigned || s.Active() != nil {
			t.Errorf("Reload() = %v, want it refused for want of a signature", err)
		}
	}
	if manifests.Load() == 0 || blobs.Load() > 2 {
		t.Errorf("the registry gave %d manifests and %d blobs", manifests.Load(), blobs.Load())
	}
}

// TestACandidateLeavesNoConnection: the registry of a candidate is one that somebody
// else may run, and what ends says so.
func TestACandidateLeavesNoConnection(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	o := flags(t, "--policy=none", "--policy-shadow=oci://"+strings.TrimPrefix(server.URL, "http://")+"/security/policy:prod", "--policy-key="+keyFile(t, signaturetest.NewSigner(t)))
	config, err := o.CandidateSource("v1", false)
	if err != nil {
		t.Fatal(err)
	}
	config.Active, config.Logger = func() *policies.Engine { return nil }, slog.New(slog.DiscardHandler)
	c, err := daemon.NewCandidate(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx, time.Hour) })
	await(t, "a connection", func() bool { return open.Load() > 0 })
	report(t, c, func(r shadow.Report) bool { return strings.Contains(r.Problem, "load policy bundle: ") })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	await(t, "no connection", func() bool { return open.Load() == 0 })
	cancel()
	running.Wait()
}

// await asks until f says yes.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is not %s", what)
		}
	}
}

// What has not changed is not read again: a candidate of a file is verified once.
func TestACandidateIsVerifiedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "next.tar.gz")
	signer := signaturetest.NewSigner(t)
	o := flags(t, "--policy=none", "--policy-shadow="+file, "--policy-key="+keyFile(t, signer))
	c, err := o.CandidateSource("v1", true)
	if err != nil || c.Source.AllowUnsigned {
		t.Fatalf("CandidateSource() = %+v, %v, want that a key rules out unsigned ones", c, err)
	}
	publish(t, file, signer, "5", time.Hour)
	first, err := c.Source.Verifier.Load(t.Context())
	if err != nil || !first.Signed || len(first.Signers) != 1 || first.Signers[0] != signer.Key().ID {
		t.Fatalf("Load() = %v, %v, want a bundle of %s", first.Signers, err, signer.Key().ID)
	}
	first.Signers[0] = "seen before"
	if again, err := c.Source.Verifier.Load(t.Context()); err != nil || again.Signers[0] != "seen before" {
		t.Errorf("Load() once more = %q, %v, want the same bundle, not verified again", again.Signers, err)
	}
	publish(t, file, signer, "6", time.Hour)
	changed, err := c.Source.Verifier.Load(t.Context())
	if err != nil || changed.Manifest.Serial != 6 {
		t.Errorf("Load() after a change = serial %d, %v, want 6", changed.Manifest.Serial, err)
	}
}

// Keys that cannot be read, identities that are none: each names flag and remedy, of
// the bundle in force as of the candidate.
func TestSignersThatCannotBeTrusted(t *testing.T) {
	dir := t.TempDir()
	garbage, big := filepath.Join(dir, "garbage.pub"), filepath.Join(dir, "big.pub")
	for file, text := range map[string][]byte{garbage: []byte("no key"), big: make([]byte, 1<<20+1)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := keyFile(t, signaturetest.NewSigner(t))
	private := filepath.Join(dir, "cosign.key")
	if err := os.WriteFile(private, signaturetest.NewSigner(t).PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no file":                {[]string{"--policy-key=" + filepath.Join(dir, "none")}, "--policy-key: "},
		"a directory":            {[]string{"--policy-key=" + dir}, "is not a file of at most"},
		"too long":               {[]string{"--policy-key=" + big}, "is not a file of at most"},
		"no key":                 {[]string{"--policy-key=" + garbage}, "--policy-key "},
		"a private key":          {[]string{"--policy-key=" + private}, "--policy-key "},
		"the same twice":         {[]string{"--policy-key=" + key, "--policy-key=" + key, "--policy-signatures=2"}, "given twice"},
		"more than there are":    {[]string{"--policy-key=" + key, "--policy-signatures=2"}, "2 signatures are needed of 1"},
		"no space":               {[]string{"--policy-identity=https://issuer.example"}, "has no space"},
		"no root":                {[]string{"--policy-identity=https://issuer.example a@example.org"}, "without a trusted root"},
		"root not there":         {[]string{"--policy-identity=https://issuer.example a", "--policy-trusted-root=" + filepath.Join(dir, "none")}, "--policy-trusted-root: "},
		"root that is none":      {[]string{"--policy-identity=https://issuer.example a", "--policy-trusted-root=" + garbage}, "trusted root"},
		"break-glass not there":  {[]string{"--policy-key=" + key, "--policy-break-glass-key=" + filepath.Join(dir, "none")}, "--policy-break-glass-key: "},
		"break-glass is no key":  {[]string{"--policy-key=" + key, "--policy-break-glass-key=" + garbage}, "--policy-break-glass-key "},
		"break-glass is regular": {[]string{"--policy-key=" + key, "--policy-break-glass-key=" + key}, "both key:"},
	} {
		t.Run(name, func(t *testing.T) {
			o := flags(t, append([]string{"--policy=p", "--policy-shadow=p"}, tt.args...)...)
			_, shadow := o.CandidateSource("v1", true)
			_, active := daemon.OpenPolicy(t.Context(), daemon.PolicyConfig{Flags: o, StateDir: state(t), AllowUnsigned: true, Logger: slog.New(slog.DiscardHandler)})
			for _, err := range []error{shadow, active} {
				usage, ok := errors.AsType[*daemon.UsageError](err)
				if !ok || !strings.Contains(err.Error(), tt.want) || usage.Hint == "" {
					t.Fatalf("%v, want a usage error with %q and a hint", err, tt.want)
				}
				if strings.Contains(err.Error()+usage.Hint, "hint:") {
					t.Errorf("%v, hint %q: want one hint", err, usage.Hint)
				}
			}
		})
	}
	o := flags(t, "--policy=oci://r.example/p:1", "--policy-shadow=oci://r.example/p:2", "--policy-key="+key, "--policy-registry-ca="+filepath.Join(dir, "none"))
	if _, err := o.CandidateSource("v1", false); err == nil || !strings.Contains(err.Error(), "--policy-registry-ca: ") {
		t.Errorf("CandidateSource() = %v, want --policy-registry-ca refused", err)
	}
}
