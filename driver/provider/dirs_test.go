package provider_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// abandon leaves a socket that nobody serves, as a killed provider does.
func abandon(t *testing.T, dir, name string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name+".sock"), Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, os.Chmod(filepath.Join(dir, name+".sock"), 0o600))
	must(t, l.Close())
}

// TestP11DirectoriesAreSearchedAsUpstreamDoes: the first that has the socket
// decides; but where upstream would call a dead socket for ever, a live one of
// a later directory is called.
func TestP11DirectoriesAreSearchedAsUpstreamDoes(t *testing.T) {
	serve := func(t *testing.T, dir string) *providertest.Provider {
		return providertest.Start(t, providertest.Config{Handler: decent(), Dir: dir})
	}
	dead := func(t *testing.T, dir string) *providertest.Provider { abandon(t, dir, "local"); return nil }
	planted := func(t *testing.T, dir string) *providertest.Provider {
		must(t, os.WriteFile(filepath.Join(dir, "local.sock"), nil, 0o600))
		return nil
	}
	nothing := func(*testing.T, string) *providertest.Provider { return nil }
	missing := func(t *testing.T, dir string) *providertest.Provider { must(t, os.Remove(dir)); return nil }
	file := func(t *testing.T, dir string) *providertest.Provider {
		must(t, os.Remove(dir))
		must(t, os.WriteFile(dir, nil, 0o600))
		return nil
	}
	type plant = func(*testing.T, string) *providertest.Provider
	tests := map[string]struct {
		first, second plant
		want          provider.Reason
		calls         [2]int
		names         string // the directory that the error names
	}{
		"in both":                       {serve, serve, "", [2]int{1, 0}, ""},
		"in the second":                 {nothing, serve, "", [2]int{0, 1}, ""},
		"first directory missing":       {missing, serve, "", [2]int{0, 1}, ""},
		"second directory missing":      {serve, missing, "", [2]int{1, 0}, ""},
		"both missing":                  {missing, missing, provider.ProviderNotFound, [2]int{}, ""},
		"dead in the first":             {dead, serve, "", [2]int{0, 1}, ""},
		"dead in the second":            {serve, dead, "", [2]int{1, 0}, ""},
		"dead in the first, no other":   {dead, nothing, provider.ProviderUnavailable, [2]int{}, ""},
		"dead in both":                  {dead, dead, provider.ProviderUnavailable, [2]int{}, ""},
		"first directory is a file":     {file, serve, provider.SocketUntrusted, [2]int{}, "first"},
		"second directory is a file":    {serve, file, "", [2]int{1, 0}, ""},
		"untrusted in the first":        {planted, serve, provider.SocketUntrusted, [2]int{}, "first"},
		"untrusted in the second":       {serve, planted, "", [2]int{1, 0}, ""},
		"dead, and untrusted afterward": {dead, planted, provider.SocketUntrusted, [2]int{}, "second"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := socketDir(t)
			first, second := filepath.Join(root, "first"), filepath.Join(root, "second")
			must(t, os.Mkdir(first, 0o700))
			must(t, os.Mkdir(second, 0o700))
			providers := [2]*providertest.Provider{tt.first(t, first), tt.second(t, second)}
			_, err := deliverer(t, quick, first, second).Deliver(t.Context(), allowed(t, objects("db-password")))
			if got := reasonOf(t, err); got != tt.want || err != nil && !strings.Contains(err.Error(), tt.names) {
				t.Errorf("Deliver() = %v (%q), want %q about %q", err, got, tt.want, tt.names)
			}
			var calls [2]int
			for i, p := range providers {
				if p != nil {
					calls[i] = len(p.Calls())
				}
			}
			if calls != tt.calls {
				t.Errorf("calls in the first and second directory = %v, want %v", calls, tt.calls)
			}
		})
	}
}

// TestAProviderThatMoves is looked for at each call: upstream keeps the first
// path it found until it is restarted.
func TestAProviderThatMoves(t *testing.T) {
	root := socketDir(t)
	first, second := filepath.Join(root, "first"), filepath.Join(root, "second")
	d := deliverer(t, quick, first, second)
	deliver := func(what string, want provider.Reason) {
		t.Helper()
		_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
		if got := reasonOf(t, err); got != want {
			t.Fatalf("%s: Deliver() = %v, want %q", what, err, want)
		}
	}
	deliver("before the directories are there", provider.ProviderNotFound)
	must(t, os.Mkdir(first, 0o700))
	must(t, os.Mkdir(second, 0o700))
	deliver("before there is a provider", provider.ProviderNotFound)
	old := providertest.Start(t, providertest.Config{Handler: decent(), Dir: second})
	deliver("it came", "")
	moved := providertest.Start(t, providertest.Config{Handler: decent(), Dir: first})
	deliver("it is in both", "")
	old.Stop()
	deliver("it moved", "")
	if o, m := len(old.Calls()), len(moved.Calls()); o != 1 || m != 2 {
		t.Errorf("calls before and after the move = %d, %d, want 1, 2", o, m)
	}
	moved.Stop()
	abandon(t, first, "local")
	back := providertest.Start(t, providertest.Config{Handler: decent(), Dir: second})
	deliver("it moved back, and was killed", "")
	deliver("and once more", "")
	if n := len(back.Calls()); n != 2 {
		t.Errorf("calls after the move back = %d, want 2", n)
	}
	must(t, os.Remove(filepath.Join(first, "local.sock")))
	again := providertest.Start(t, providertest.Config{Handler: decent(), Dir: first})
	deliver("the first is served again", "")
	if n := len(again.Calls()); n != 1 {
		t.Errorf("calls of the first directory once it is served again = %d, want 1", n)
	}
}

// TestOneSocketByTwoNames: /var/run is a link to /run, and both may be listed.
func TestOneSocketByTwoNames(t *testing.T) {
	root := socketDir(t)
	dir, link := filepath.Join(root, "run"), filepath.Join(root, "var-run")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink(dir, link))
	p := providertest.Start(t, providertest.Config{Handler: decent(), Dir: dir})
	d := deliverer(t, quick, link, dir)
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil || len(p.Calls()) != 1 {
		t.Errorf("Deliver() = %v with %d calls, want nil and one", err, len(p.Calls()))
	}
	if names := d.Providers(); len(names) != 1 {
		t.Errorf("Providers() = %q, want one", names)
	}
}
