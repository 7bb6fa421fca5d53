package provider_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

func decent() providertest.Handler {
	return providertest.Files(map[string]string{"db-password": canary})
}

// quick shortens the waits for a provider that is not there.
func quick(c *provider.Config) { c.Timeout, c.ConnectTimeout = 2*time.Second, 300*time.Millisecond }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSocketsThatAreNotTrusted(t *testing.T) {
	behind := providertest.New(t, decent())
	tests := map[string]struct {
		plant func(t *testing.T, path string)
		want  provider.Reason
	}{
		"missing": {func(*testing.T, string) {}, provider.ProviderNotFound},
		"symbolic link": {func(t *testing.T, path string) {
			must(t, os.Symlink(behind.Path, path))
		}, provider.SocketUntrusted},
		"dangling link": {func(t *testing.T, path string) {
			must(t, os.Symlink(path+"-nowhere", path))
		}, provider.SocketUntrusted},
		"regular file": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o600))
		}, provider.SocketUntrusted},
		"directory": {func(t *testing.T, path string) {
			must(t, os.Mkdir(path, 0o700))
		}, provider.SocketUntrusted},
		"writable by others": {func(t *testing.T, path string) {
			providertest.Start(t, providertest.Config{Handler: decent(), Dir: filepath.Dir(path), Mode: 0o666})
		}, provider.SocketUntrusted},
		"writable by the group": {func(t *testing.T, path string) {
			providertest.Start(t, providertest.Config{Handler: decent(), Dir: filepath.Dir(path), Mode: 0o660})
		}, provider.SocketUntrusted},
		"nobody listens": {func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			must(t, os.Chmod(path, 0o600))
			must(t, l.Close())
		}, provider.ProviderUnavailable},
		"0755 is decent": {func(t *testing.T, path string) {
			providertest.Start(t, providertest.Config{Handler: decent(), Dir: filepath.Dir(path), Mode: 0o755})
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := socketDir(t)
			tt.plant(t, filepath.Join(dir, "local.sock"))
			call := allowed(t, objects("db-password"))
			_, err := deliverer(t, quick, dir).Deliver(t.Context(), call)
			if got := reasonOf(t, err); got != tt.want {
				t.Errorf("Deliver() = %v (%q), want %q", err, got, tt.want)
			}
		})
	}
	if n := len(behind.Calls()); n != 0 {
		t.Errorf("the provider behind the link saw %d calls, want none", n)
	}
}

// TestProvidersOfOtherUsers covers the owner of the file and the user behind
// it, which differ where somebody plants or hands over a socket.
func TestProvidersOfOtherUsers(t *testing.T) {
	hardeningtest.NeedRoot(t)
	tests := map[string]struct {
		config  providertest.Config
		allowed []int
		want    provider.Reason
	}{
		"foreign owner":           {providertest.Config{Owner: 65532}, nil, provider.SocketUntrusted},
		"foreign owner, allowed":  {providertest.Config{Owner: 65532}, []int{65532}, ""},
		"foreign listener":        {providertest.Config{RunAs: 65532}, nil, provider.SocketUntrusted},
		"listener 65532, allowed": {providertest.Config{RunAs: 65532}, []int{65532}, ""},
		"another one is allowed":  {providertest.Config{RunAs: 65532}, []int{65533}, provider.SocketUntrusted},
		"another's file":          {providertest.Config{RunAs: 65532, Owner: 65533}, []int{65533}, provider.SocketUntrusted},
		"behind a file of root's": {providertest.Config{RunAs: 65532, Owner: 1}, []int{1}, provider.SocketUntrusted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.config.Handler = decent()
			p := providertest.Start(t, tt.config)
			if tt.config.Owner == 1 {
				must(t, os.Chown(p.Path, 0, -1))
			}
			d := deliverer(t, func(c *provider.Config) { c.ProviderUIDs = tt.allowed }, p.Dir)
			begin := time.Now()
			_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
			if got := reasonOf(t, err); got != tt.want {
				t.Fatalf("Deliver() = %v (%q), want %q", err, got, tt.want)
			}
			if tt.want == "" {
				return
			}
			if n := len(p.Calls()); n != 0 {
				t.Errorf("the provider saw %d calls, want none", n)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("Deliver() took %v, want a refusal at once", took)
			}
		})
	}
}

// TestFirstDirectoryDecides: a socket that is not trusted is not passed over.
func TestFirstDirectoryDecides(t *testing.T) {
	first, second := providertest.New(t, decent()), providertest.New(t, decent())
	empty := socketDir(t)
	planted := socketDir(t)
	must(t, os.Symlink(second.Path, filepath.Join(planted, "local.sock")))
	tests := map[string]struct {
		dirs          []string
		first, second int
		want          provider.Reason
	}{
		"in order":           {[]string{first.Dir, second.Dir}, 1, 0, ""},
		"the other order":    {[]string{second.Dir, first.Dir}, 0, 1, ""},
		"empty first":        {[]string{empty, second.Dir}, 0, 1, ""},
		"missing first":      {[]string{empty + "/no", second.Dir}, 0, 1, ""},
		"planted first":      {[]string{planted, second.Dir}, 0, 0, provider.SocketUntrusted},
		"none has it":        {[]string{empty}, 0, 0, provider.ProviderNotFound},
		"file, no directory": {[]string{first.Path}, 0, 0, provider.SocketUntrusted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before1, before2 := len(first.Calls()), len(second.Calls())
			_, err := deliverer(t, quick, tt.dirs...).Deliver(t.Context(), allowed(t, objects("db-password")))
			if got := reasonOf(t, err); got != tt.want {
				t.Errorf("Deliver() = %v, want %q", err, tt.want)
			}
			got := []int{len(first.Calls()) - before1, len(second.Calls()) - before2}
			if diff := cmp.Diff([]int{tt.first, tt.second}, got); diff != "" {
				t.Errorf("calls of first and second (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReinstalledProvider: a new socket file means a new connection, also
// while the old process still listens.
func TestReinstalledProvider(t *testing.T) {
	old := providertest.New(t, decent())
	d := deliverer(t, nil, old.Dir)
	deliver := func() {
		t.Helper()
		if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
			t.Fatalf("Deliver() = %v", err)
		}
	}
	deliver()
	must(t, os.Rename(old.Path, old.Path+".old"))
	fresh := providertest.Start(t, providertest.Config{Handler: decent(), Dir: old.Dir})
	deliver()
	deliver()
	if o, f := len(old.Calls()), len(fresh.Calls()); o != 1 || f != 2 {
		t.Errorf("calls of the old and the new provider = %d, %d, want 1, 2", o, f)
	}
	fresh.Stop()
	again := providertest.Start(t, providertest.Config{Handler: decent(), Dir: old.Dir})
	deliver()
	if n := len(again.Calls()); n != 1 {
		t.Errorf("calls after a restart = %d, want 1", n)
	}
}

func TestCheckAndProviders(t *testing.T) {
	good := providertest.New(t, decent())
	providertest.Start(t, providertest.Config{Handler: decent(), Dir: good.Dir, Name: "odd", APIVersion: canary})
	providertest.Start(t, providertest.Config{Handler: decent(), Dir: good.Dir, Name: "newer", APIVersion: "v1beta2"})
	must(t, os.WriteFile(filepath.Join(good.Dir, "notes.txt"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(good.Dir, "a b.sock"), nil, 0o600))
	d := deliverer(t, quick, good.Dir, good.Dir+"/missing")
	if diff := cmp.Diff([]string{"local", "newer", "odd"}, d.Providers()); diff != "" {
		t.Errorf("Providers() (-want +got):\n%s", diff)
	}
	runtime, err := d.Check(t.Context(), "local")
	if want := (provider.Runtime{Name: "providertest", Version: "0.0.1"}); err != nil || runtime != want {
		t.Errorf("Check(local) = %v, %v, want %v", runtime, err, want)
	}
	for name, want := range map[string]provider.Reason{
		"odd": "", "newer": provider.VersionIncompatible, "gone": provider.ProviderNotFound, "": provider.ProviderNotFound, "../x": provider.ProviderNotFound,
	} {
		_, err := d.Check(t.Context(), name)
		if got := reasonOf(t, err); got != want || mentions(err, canary) {
			t.Errorf("Check(%q) = %v, want %s", name, err, want)
		}
	}
}

func TestClosed(t *testing.T) {
	p := providertest.New(t, decent())
	d := deliverer(t, quick, p.Dir)
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	d.Close()
	_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
	if got := reasonOf(t, err); got != provider.Canceled {
		t.Errorf("Deliver() after Close() = %v, want %s", err, provider.Canceled)
	}
}

func TestReasonsAreComplete(t *testing.T) {
	fallback := provider.ErrorOf("no such reason")
	if fallback.Code() != codes.PermissionDenied {
		t.Errorf("Code() of an unknown reason = %v, want PermissionDenied", fallback.Code())
	}
	upstream := []string{
		"FailedToLookupProviderGRPCClient", "GRPCProviderError", "ProviderError", "IncompatibleProviderVersion", "FileWriteError", "PolicyDenied",
	}
	texts := map[string]provider.Reason{}
	for _, r := range provider.Reasons() {
		e := provider.ErrorOf(r)
		if r != provider.NotGranted && e.Error() == fallback.Error() {
			t.Errorf("%s has no text of its own", r)
		}
		if other, taken := texts[e.Error()]; taken {
			t.Errorf("%s and %s have the same text", r, other)
		}
		texts[e.Error()] = r
		if e.Hint() == "" || !slices.Contains(upstream, e.MetricType()) {
			t.Errorf("%s: hint %q, metric type %q, want one of %q", r, e.Hint(), e.MetricType(), upstream)
		}
		// Kubelet deletes the mount directory on a final code (isFinalError in
		// pkg/volume/csi).
		waits := []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted}
		if final := !slices.Contains(waits, e.Code()); final && r != provider.NotGranted {
			t.Errorf("%s has the final code %v", r, e.Code())
		}
	}
	if e := provider.ErrorOf(provider.ProviderWroteItself); !mentions(errors.New(e.Hint()), "--driver-writes-secrets") {
		t.Errorf("Hint(%s) = %q, want the flag of the AWS provider", e.Reason, e.Hint())
	}
}
