package providertest_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// client is the stock client of a provider.
func client(t *testing.T, p *providertest.Provider) v1alpha1.CSIDriverProviderClient {
	t.Helper()
	cc, err := grpc.NewClient("unix:"+p.Path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return v1alpha1.NewCSIDriverProviderClient(cc)
}

func TestHandlersReachTheWire(t *testing.T) {
	decent := &v1alpha1.MountResponse{
		ObjectVersion: []*v1alpha1.ObjectVersion{{Id: "a", Version: "v1"}},
		Files:         []*v1alpha1.File{{Path: "a", Mode: 0o644, Contents: []byte("x")}},
	}
	raw, err := proto.Marshal(decent)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		handler providertest.Handler
		want    *v1alpha1.MountResponse
		code    codes.Code
	}{
		"files":   {providertest.Files(map[string]string{"a": "x"}), decent, codes.OK},
		"raw":     {providertest.Raw(raw), decent, codes.OK},
		"code":    {providertest.Code("E"), &v1alpha1.MountResponse{Error: &v1alpha1.Error{Code: "E"}}, codes.OK},
		"fail":    {providertest.Fail(codes.NotFound, "no"), nil, codes.NotFound},
		"in turn": {providertest.InTurn(providertest.Fail(codes.Aborted, ""), providertest.Code("E")), nil, codes.Aborted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, tt.handler)
			want := &v1alpha1.MountRequest{Attributes: "{}", Permission: "288"}
			got, err := client(t, p).Mount(t.Context(), want)
			if status.Code(err) != tt.code {
				t.Fatalf("Mount() = %v, want %v", err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("Mount() (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]*v1alpha1.MountRequest{want}, p.Calls(), protocmp.Transform()); diff != "" {
				t.Errorf("Calls() (-want +got):\n%s", diff)
			}
			if p.Forget(); len(p.Calls()) != 0 || len(p.Authorities()) != 0 {
				t.Errorf("Calls() after Forget() = %v, want none", p.Calls())
			}
		})
	}
}

func TestConnectionsBreakOff(t *testing.T) {
	p := providertest.Start(t, providertest.Config{
		Handler: providertest.Files(map[string]string{"a": strings.Repeat("x", 10_000)}), CutAfter: 2000,
	})
	if _, err := client(t, p).Mount(t.Context(), &v1alpha1.MountRequest{}); err == nil {
		t.Error("Mount() over a connection that breaks off = nil, want an error")
	}
	if n := p.Written(); n < 2000 || n > 3*2000 {
		t.Errorf("Written() = %d, want 2000 for each of a few connections", n)
	}
}

// TestRunAs: the kernel says that another user listens, and the test itself
// stays who it was.
func TestRunAs(t *testing.T) {
	hardeningtest.NeedRoot(t)
	p := providertest.Start(t, providertest.Config{Handler: providertest.Code("E"), RunAs: 65532, Mode: 0o640})
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.Path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if uid, err := hardening.PeerUID(nc); err != nil || uid != 65532 {
		t.Errorf("PeerUID() = %d, %v, want 65532", uid, err)
	}
	info, err := os.Lstat(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != 65532 || info.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("socket %s = %v of %v, want mode 0640 of 65532", p.Path, info.Mode(), stat)
	}
	for range 50 {
		done := make(chan int)
		go func() { done <- syscall.Geteuid() }()
		if uid := <-done; uid != 0 {
			t.Fatalf("a thread of the test runs as %d, want 0", uid)
		}
	}
}

func TestVolumeBehavesLikeARealOne(t *testing.T) {
	files := func(content string) []hardening.File {
		return []hardening.File{{Path: "a", Mode: 0o440, Data: hardening.NewPlaintext([]byte(content))}}
	}
	var v providertest.Volume
	if _, err := v.Replace(files("0")); !errors.Is(err, hardening.ErrNotAttached) {
		t.Errorf("Replace() of an empty volume = %v, want %v", err, hardening.ErrNotAttached)
	}
	if err := v.Fill(files("1")); err != nil {
		t.Errorf("Fill() = %v", err)
	}
	if err := v.Fill(files("1")); !errors.Is(err, hardening.ErrFilled) {
		t.Errorf("second Fill() = %v, want %v", err, hardening.ErrFilled)
	}
	if changed, err := v.Replace(files("1")); err != nil || changed {
		t.Errorf(`Replace("1") = %v, %v, want false`, changed, err)
	}
	if changed, err := v.Replace(files("2")); err != nil || !changed {
		t.Errorf(`Replace("2") = %v, %v, want true`, changed, err)
	}
	want := map[string]providertest.File{"a": {Content: "2", Mode: 0o440}}
	if diff := cmp.Diff(want, v.Files()); diff != "" {
		t.Errorf("Files() (-want +got):\n%s", diff)
	}
	v.Err = hardening.ErrNoFiles
	if _, err := v.Replace(files("3")); !errors.Is(err, v.Err) {
		t.Errorf("Replace() = %v, want %v", err, v.Err)
	}
}
