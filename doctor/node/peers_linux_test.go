package node_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// identityServer is a plugin, or somebody who says so.
type identityServer struct {
	csi.UnimplementedIdentityServer
	name, version string
	ready         *wrapperspb.BoolValue
	err           error
}

// GetPluginInfo answers as told.
func (s identityServer) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.name, VendorVersion: s.version}, nil
}

// Probe answers as told.
func (s identityServer) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: s.ready}, s.err
}

// registrar is what kubelet would ask.
type registrar struct {
	registerapi.UnimplementedRegistrationServer
	info     *registerapi.PluginInfo
	notified *bool
}

// GetInfo answers as told.
func (r registrar) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return r.info, nil
}

// NotifyRegistrationStatus is for kubelet alone.
func (r registrar) NotifyRegistrationStatus(context.Context, *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	*r.notified = true
	return &registerapi.RegistrationStatusResponse{}, nil
}

// serveGRPC serves a socket until the end of the test.
func serveGRPC(t *testing.T, path string, register func(*grpc.Server)) {
	t.Helper()
	s := grpc.NewServer()
	register(s)
	l := listen(t, "unix", path)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
}

func TestWhatPluginsAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		server identityServer
		ready  bool
		fails  string
	}{
		"ready":        {identityServer{name: driver, version: "v1", ready: wrapperspb.Bool(true)}, true, ""},
		"silent":       {identityServer{name: driver, version: "v1"}, true, ""},
		"not ready":    {identityServer{name: driver, version: "v1", ready: wrapperspb.Bool(false)}, false, ""},
		"other driver": {identityServer{name: "other", version: "v1"}, true, ""},
		"refuses":      {identityServer{name: driver, version: "v1", err: status.Error(codes.Internal, "Xcanary7")}, false, "code Internal"},
		"is away":      {identityServer{name: driver, version: "v1", err: status.Error(codes.Unavailable, "Xcanary7")}, false, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			c := place(t)
			c.Probe = 10 * time.Second
			serveGRPC(t, c.CSISocket, func(s *grpc.Server) { csi.RegisterIdentityServer(s, test.server) })
			p := gather(t, c).Plugin
			if p.Name != test.server.name || p.Version != "v1" || test.fails == "" && p.Ready != test.ready {
				t.Errorf("Plugin = %+v, want %+v", p, test)
			}
			switch {
			case test.fails == "" && p.Err != nil:
				t.Errorf("Plugin.Err = %v", p.Err)
			case test.fails != "" && (p.Err == nil || !strings.Contains(p.Err.Error(), test.fails) || strings.Contains(p.Err.Error(), "Xcanary7")):
				t.Errorf("Plugin.Err = %v, want %q, and no word of the plugin", p.Err, test.fails)
			}
		})
	}
}

// The registration socket is asked, and never told that anything is registered.
func TestWhatRegistrarsAnswer(t *testing.T) {
	c := place(t)
	c.Probe = 10 * time.Second
	notified := false
	info := &registerapi.PluginInfo{Type: "CSIPlugin", Name: "other", Endpoint: "/x.sock", SupportedVersions: []string{"1.0.0"}}
	serveGRPC(t, filepath.Join(c.Registry, driver+"-reg.sock"), func(s *grpc.Server) {
		registerapi.RegisterRegistrationServer(s, registrar{info: info, notified: &notified})
	})
	n := gather(t, c)
	r := n.Registration
	if r.Err != nil || r.Name != "other" || r.Type != "CSIPlugin" || r.Endpoint != "/x.sock" || len(r.Versions) != 1 {
		t.Errorf("Registration = %+v, want what the socket answers", r)
	}
	if notified {
		t.Error("the plugin was told that it is registered")
	}
	for _, result := range doctor.Run(&doctor.Facts{Now: time.Now(), Driver: driver, Node: n}).Results {
		if result.Check == "kubelet.registration" && (result.Status != doctor.Fail || !strings.Contains(result.Finding, `"other"`)) {
			t.Errorf("another driver at the socket = %+v, want FAIL", result)
		}
	}
}

// A message without end is cut, and the memory for it never taken.
func TestAnswersAreBounded(t *testing.T) {
	c := place(t)
	c.Probe = 10 * time.Second
	serveGRPC(t, c.CSISocket, func(s *grpc.Server) {
		csi.RegisterIdentityServer(s, identityServer{name: strings.Repeat("x", 1<<20), version: "v1"})
	})
	if p := gather(t, c).Plugin; p.Err == nil || !strings.Contains(p.Err.Error(), "ResourceExhausted") {
		t.Errorf("Plugin.Err = %v, want that the answer is too large", p.Err)
	}
}

// What another user serves is not believed, not even asked.
func TestPeersThatAreNotRoot(t *testing.T) {
	hardeningtest.NeedRoot(t)
	const nobody = 65534
	c := place(t)
	dir := filepath.Dir(c.CSISocket)
	for _, d := range []string{dir, c.Registry, c.StateDir} {
		if err := os.Chown(d, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	asked := make(chan struct{}, 8)
	for _, path := range []string{c.CSISocket, filepath.Join(c.Registry, driver+"-reg.sock"), filepath.Join(c.StateDir, "admin.sock")} {
		serve(t, listenAs(t, nobody, path), func(conn net.Conn) {
			if n, _ := conn.Read(make([]byte, 1)); n > 0 {
				asked <- struct{}{}
			}
			_ = conn.Close()
		})
	}
	n := gather(t, c)
	for what, err := range map[string]error{"CSI": n.Plugin.Err, "registration": n.Registration.Err} {
		if err == nil || !strings.Contains(err.Error(), "not root: user 65534") {
			t.Errorf("%s: error = %v, want that user 65534 serves it", what, err)
		}
	}
	if n.Log.Err == nil {
		t.Error("the log of user 65534 was believed")
	}
	if len(asked) > 0 {
		t.Errorf("%d of them were asked", len(asked))
	}
}

// listenAs listens with the effective user of one thread, as the kernel notes it
// for SO_PEERCRED.
func listenAs(t *testing.T, uid int, path string) net.Listener {
	t.Helper()
	result := make(chan net.Listener, 1)
	go func() {
		// The thread is not unlocked, and so ends with the goroutine.
		l, err := asUser(uid, func() (net.Listener, error) { return new(net.ListenConfig).Listen(t.Context(), "unix", path) })
		if err != nil {
			t.Error(err)
		}
		result <- l
	}()
	l := <-result
	if l == nil {
		t.FailNow()
	}
	return l
}

func TestProvidersAreAskedAsThePluginAsks(t *testing.T) {
	hardeningtest.NeedRoot(t)
	c := place(t)
	never := func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		t.Error("a provider was asked for secrets")
		return nil, status.Error(codes.Internal, "no")
	}
	release := make(chan struct{})
	defer close(release)
	for name, config := range map[string]providertest.Config{
		"good":    {},
		"other":   {APIVersion: "v9"},
		"anybody": {Mode: 0o666},
		"foreign": {Owner: 65534},
		"hangs": {Version: func(ctx context.Context, _ *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		}},
	} {
		config.Name, config.Dir, config.Handler = name, c.ProviderDirs[1], never
		providertest.Start(t, config)
	}
	c.Probe = 2 * time.Second
	found := map[string]doctor.Provider{}
	for _, p := range gather(t, c).Providers.Value {
		found[p.Name] = p
	}
	if len(found) != 5 || found["good"].Err != nil {
		t.Errorf("Providers = %+v, want five, of which good is good", found)
	}
	for _, name := range []string{"other", "anybody", "foreign", "hangs"} {
		if p := found[name]; p.Err == nil || p.Hint == "" || p.Path != filepath.Join(c.ProviderDirs[1], name+".sock") {
			t.Errorf("%s = %+v, want an error with a hint", name, p)
		}
	}
	c.ProviderUIDs = []int{65534}
	for _, p := range gather(t, c).Providers.Value {
		if p.Name == "foreign" && p.Err != nil {
			t.Errorf("foreign, which --provider-uid allows: %v", p.Err)
		}
	}
}

// asUser runs f on a thread with another effective user.
func asUser(uid int, f func() (net.Listener, error)) (net.Listener, error) {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return nil, errno
	}
	return f()
}
