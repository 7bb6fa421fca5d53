package provider_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// answers is how a provider implements Version.
type answers func(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error)

// says answers with these three words.
func says(version, name, runtime string) answers {
	return func(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
		return &v1alpha1.VersionResponse{Version: version, RuntimeName: name, RuntimeVersion: runtime}, nil
	}
}

// echoes answers with the version that was asked for.
func echoes(name, runtime string) answers {
	return func(ctx context.Context, r *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
		return says(r.GetVersion(), name, runtime)(ctx, r)
	}
}

func fails(code codes.Code) answers {
	return func(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
		return nil, status.Error(code, canary)
	}
}

func hangs(ctx context.Context, _ *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestP11EveryProvidersVersion has what the providers in the field answer, read
// in their source (internal/server/server.go of vault-csi-provider,
// openbao-csi-provider and akeyless-csi-provider; server/server.go of the AWS,
// Azure and GCP providers; pkg/provider of conjur-k8s-csi-provider; upstream's
// test/e2eprovider), and what others might: upstream never asks before a mount,
// so all of that works there.
func TestP11EveryProvidersVersion(t *testing.T) {
	tests := map[string]struct {
		answer answers
		want   provider.Reason
		up     bool // by the health check
	}{
		"vault":        {says("v1alpha1", "vault-csi-provider", "1.5.1"), "", true},
		"openbao":      {says("v1alpha1", "openbao-csi-provider", "2.0.0"), "", true},
		"aws":          {says("v1alpha1", "secrets-store-csi-driver-provider-aws", "2.1.1"), "", true},
		"azure":        {says("v1alpha1", "secrets-store-csi-driver-provider-azure", "v1.7.0"), "", true},
		"gcp":          {says("v1alpha1", "secrets-store-csi-driver-provider-gcp", "dev"), "", true},
		"akeyless":     {says("v1alpha1", "akeyless-csi-provider", ""), "", true},
		"conjur":       {echoes("conjur", "0.2.0"), "", true},
		"e2e-provider": {says("v1alpha1", "E2EMockProvider", "v0.0.10"), "", true},

		"nothing at all":        {says("", "", ""), "", true},
		"a release":             {says("1.2.3", "x", "1.2.3"), "", true},
		"a release with v":      {says("v0.0.10", "x", ""), "", true},
		"v0":                    {says("v0", "x", ""), "", true},
		"another case":          {says("V1ALPHA1", "x", ""), "", true},
		"text":                  {says(canary, canary, canary), "", true},
		"a long version":        {says("v1234567890", "x", ""), "", true},
		"escape sequences":      {says("v2\x1b[31m", "\x1b", "\n"), "", true},
		"no such method":        {fails(codes.Unimplemented), "", true},
		"an error":              {fails(codes.Internal), "", false},
		"unavailable":           {fails(codes.Unavailable), "", false},
		"more than three words": {says("v2", strings.Repeat("x", 1<<20), ""), "", false},

		"v1":       {says("v1", "x", "y"), provider.VersionIncompatible, false},
		"v1alpha2": {says("v1alpha2", "x", "y"), provider.VersionIncompatible, false},
		"v2beta10": {says("v2beta10", canary, canary), provider.VersionIncompatible, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.Start(t, providertest.Config{Handler: decent(), Version: tt.answer})
			d := deliverer(t, quick, p.Dir)
			_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
			if got := reasonOf(t, err); got != tt.want {
				t.Fatalf("Deliver() = %v (%q), want %q", err, got, tt.want)
			}
			if n := len(p.Calls()); (n == 0) != (tt.want != "") {
				t.Errorf("the provider saw %d requests, want none unless it speaks our version", n)
			}
			if _, err := d.Check(t.Context(), "local"); (err == nil) != tt.up || mentions(err, canary) {
				t.Errorf("Check() = %v, want in good health: %t", err, tt.up)
			}
		})
	}
}

func TestAMismatchNamesBothVersions(t *testing.T) {
	p := providertest.Start(t, providertest.Config{Handler: decent(), APIVersion: "v1beta1"})
	_, err := deliverer(t, quick, p.Dir).Deliver(t.Context(), allowed(t, objects("db-password")))
	if want := `fetch from provider "local": the provider speaks another API version: it speaks v1beta1, this driver v1alpha1`; err == nil || err.Error() != want {
		t.Errorf("Deliver() = %v, want %s", err, want)
	}
	e := provider.ErrorOf(reasonOf(t, err))
	if e.MetricType() != "IncompatibleProviderVersion" || !strings.Contains(e.Hint(), "v1alpha1") || e.Code() != codes.Unavailable {
		t.Errorf("type %s, hint %q, code %v, want upstream's error_type, the remedy, and no final code", e.MetricType(), e.Hint(), e.Code())
	}
}

// TestTheVersionIsAskedOncePerConnection, however many calls there are at the
// same time, and again of the process that takes the place of the first.
func TestTheVersionIsAskedOncePerConnection(t *testing.T) {
	p := providertest.New(t, decent())
	d := deliverer(t, nil, p.Dir)
	var calls sync.WaitGroup
	for range 8 {
		call := allowed(t, objects("db-password"))
		calls.Go(func() {
			if _, err := d.Deliver(t.Context(), call); err != nil {
				t.Errorf("Deliver() = %v", err)
			}
		})
	}
	calls.Wait()
	if n := p.Asked(); n != 1 {
		t.Errorf("the provider was asked %d times in eight calls at once, want once", n)
	}
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil || p.Asked() != 1 {
		t.Errorf("Deliver() = %v, asked %d times, want nil and still once", err, p.Asked())
	}
	p.Stop()
	newer := providertest.Start(t, providertest.Config{Handler: decent(), Dir: p.Dir, APIVersion: "v2"})
	_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
	if got := reasonOf(t, err); got != provider.VersionIncompatible {
		t.Errorf("Deliver() after the provider was exchanged = %v, want %s", err, provider.VersionIncompatible)
	}
	newer.Stop()
	older := providertest.Start(t, providertest.Config{Handler: decent(), Dir: p.Dir})
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil || older.Asked() != 1 {
		t.Errorf("Deliver() after it was put back = %v, asked %d times, want nil and once", err, older.Asked())
	}
}

// TestAProviderThatIsMendedBehindItsSocket changes its answer without a new
// socket file: a refusal holds for a connection, not for ever.
func TestAProviderThatIsMendedBehindItsSocket(t *testing.T) {
	var mu sync.Mutex
	version := "v2"
	p := providertest.Start(t, providertest.Config{Handler: decent(), Version: func(ctx context.Context, r *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		return says(version, "x", "y")(ctx, r)
	}})
	d := deliverer(t, nil, p.Dir)
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); reasonOf(t, err) != provider.VersionIncompatible {
		t.Fatalf("Deliver() = %v, want %s", err, provider.VersionIncompatible)
	}
	mu.Lock()
	version = "v1alpha1"
	mu.Unlock()
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Errorf("Deliver() of the mended provider = %v, want nil", err)
	}
}

// TestTheVersionIsAskedAnewOfAnotherProcess that took over a socket file which
// stayed the same, as with socket activation.
func TestTheVersionIsAskedAnewOfAnotherProcess(t *testing.T) {
	var mu sync.Mutex
	version := "v1alpha1"
	p := providertest.Start(t, providertest.Config{
		Handler: decent(),
		Version: func(ctx context.Context, r *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			return says(version, "x", "y")(ctx, r)
		},
		Options: []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Millisecond})},
	})
	d := deliverer(t, nil, p.Dir)
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Fatalf("Deliver() = %v, want nil", err)
	}
	mu.Lock()
	version = "v2"
	mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
		if reasonOf(t, err) == provider.VersionIncompatible {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Deliver() over a new connection = %v, want %s", err, provider.VersionIncompatible)
		}
	}
}

// TestAProviderThatNeverAnswersVersion mounts under upstream, so it has to
// here, after a wait that happens once.
func TestAProviderThatNeverAnswersVersion(t *testing.T) {
	p := providertest.Start(t, providertest.Config{Handler: decent(), Version: hangs})
	d := deliverer(t, nil, p.Dir)
	for i := range 3 {
		begin := time.Now()
		if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
			t.Fatalf("Deliver() no. %d = %v, want nil", i, err)
		}
		if took := time.Since(begin); took > 8*time.Second { // of the 10 s that this client has
			t.Errorf("Deliver() no. %d took %v, want a short wait at most", i, took)
		}
	}
	if n := p.Asked(); n != 1 {
		t.Errorf("the provider was asked %d times, want once", n)
	}
}

// TestGivingUpWhileTheVersionIsAsked leaves the question to the next call.
func TestGivingUpWhileTheVersionIsAsked(t *testing.T) {
	p := providertest.Start(t, providertest.Config{Handler: decent(), Version: hangs})
	d := deliverer(t, nil, p.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	call := allowed(t, objects("db-password"))
	context.AfterFunc(t.Context(), cancel)
	go func() {
		for p.Asked() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := d.Deliver(ctx, call)
	if got := reasonOf(t, err); got != provider.Canceled || len(p.Calls()) != 0 {
		t.Errorf("Deliver() given up = %v with %d requests, want %s and none", err, len(p.Calls()), provider.Canceled)
	}
	if _, err := d.Deliver(t.Context(), call); err != nil || p.Asked() != 2 {
		t.Errorf("Deliver() afterwards = %v, asked %d times, want nil and twice", err, p.Asked())
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"", "v1alpha1", "v1", "v2beta3", "v1.2.3", "v0", "v1alpha", "v1gamma1", "v\x1b1", "v1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := provider.OtherVersion(s)
		if got == "" {
			return
		}
		if got != s || s == "v1alpha1" || len(s) > len("v999alpha999") || strings.Trim(s, "valphbet0123456789") != "" {
			t.Errorf("OtherVersion(%q) = %q, want a version as Kubernetes writes them, or nothing", s, got)
		}
	})
}
