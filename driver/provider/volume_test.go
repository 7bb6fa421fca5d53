package provider_test

import (
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies"
)

const volumeName = "secrets"

// node is a kubelet root with one pod's volume directory.
type node struct {
	system *hardening.System
	target *hardening.Target
	mount  string
}

// newNode opens a kubelet root of its own. Whatever is mounted there is
// unmounted with the test.
func newNode(t testing.TB) node {
	t.Helper()
	hardeningtest.NeedRoot(t)
	root := t.TempDir()
	uid := podUID(t)
	dir := filepath.Join(root, "pods", uid, "volumes", "kubernetes.io~csi", volumeName)
	must(t, os.MkdirAll(dir, 0o750))
	system, err := hardening.Open(hardening.Config{KubeletRoot: root, Protection: "auto"})
	must(t, err)
	t.Cleanup(func() { must(t, system.Close()) })
	target, err := system.Target(uid, volumeName)
	must(t, err)
	t.Cleanup(func() {
		_, err := target.Detach()
		must(t, err)
		must(t, target.Close())
	})
	must(t, target.Prepare())
	return node{system: system, target: target, mount: filepath.Join(dir, "mount")}
}

func podUID(t testing.TB) string {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	must(t, err)
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// volume returns a detached volume of so many bytes.
func (n node) volume(t testing.TB, bytes int64) *hardening.Volume {
	t.Helper()
	v, err := n.system.NewVolume(hardening.Limits{Bytes: bytes, GID: 2000})
	must(t, err)
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// read returns mode and content by path, as a pod would see them.
func (n node) read(t *testing.T) map[string]string {
	t.Helper()
	got := map[string]string{}
	must(t, fs.WalkDir(os.DirFS(n.mount+"/..data/"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(n.mount, path))
		got[path] = info.Mode().String() + " " + string(content)
		return err
	}))
	return got
}

// TestRealVolume delivers into a detached tmpfs, attaches it, and rotates it.
func TestRealVolume(t *testing.T) {
	n := newNode(t)
	p := providertest.New(t, providertest.InTurn(
		providertest.Files(map[string]string{"db-password": "one", "tls/key": "k"}),
		providertest.Files(map[string]string{"db-password": "two", "tls/key": "k"}),
	))
	d := deliverer(t, nil, p.Dir)
	call := allowed(t, objects("db-password", "tls/key"))
	volume := n.volume(t, 1<<20)
	call.Volume = volume
	if _, err := d.Deliver(t.Context(), call); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	must(t, volume.Attach(n.target))
	want := map[string]string{"db-password": "-r--r----- one", "tls/key": "-r--r----- k"}
	if diff := cmp.Diff(want, n.read(t)); diff != "" {
		t.Errorf("first delivery (-want +got):\n%s", diff)
	}
	call.Rotate = true
	for i, changed := range []bool{true, false} {
		got, err := d.Deliver(t.Context(), call)
		if err != nil || got.Changed != changed {
			t.Errorf("rotation %d: Deliver() = changed %v, %v, want %v", i, got.Changed, err, changed)
		}
	}
	want["db-password"] = "-r--r----- two"
	if diff := cmp.Diff(want, n.read(t)); diff != "" {
		t.Errorf("after rotation (-want +got):\n%s", diff)
	}
}

// TestHostileRepliesLeaveRealVolumesEmpty: a refused reply creates no file,
// and a refused rotation changes none.
func TestHostileRepliesLeaveRealVolumesEmpty(t *testing.T) {
	n := newNode(t)
	good := providertest.New(t, decent())
	call := allowed(t, objects("db-password"))
	volume := n.volume(t, 1<<20)
	call.Volume = volume
	if _, err := deliverer(t, nil, good.Dir).Deliver(t.Context(), call); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	must(t, volume.Attach(n.target))
	before := n.read(t)
	for name, tt := range hostile() {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, tt.handler)
			d := deliverer(t, func(c *provider.Config) { c.MaxReceiveBytes = 1 << 20 }, p.Dir)
			fresh := call
			fresh.Volume = n.volume(t, 1<<20)
			if _, err := d.Deliver(t.Context(), fresh); reasonOf(t, err) != tt.want {
				t.Errorf("Deliver() = %v, want %s", err, tt.want)
			}
			// Only a volume that nothing was written to can be filled.
			if _, err := deliverer(t, nil, good.Dir).Deliver(t.Context(), fresh); err != nil {
				t.Errorf("Deliver() after a refused one = %v, want an untouched volume", err)
			}
			rotate := call
			rotate.Rotate = true
			if _, err := d.Deliver(t.Context(), rotate); reasonOf(t, err) != tt.want {
				t.Errorf("Deliver(rotate) = %v, want %s", err, tt.want)
			}
			if diff := cmp.Diff(before, n.read(t)); diff != "" {
				t.Errorf("a refused rotation changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestRealVolumeIsTooSmall(t *testing.T) {
	n := newNode(t)
	p := providertest.New(t, providertest.Files(map[string]string{"db-password": strings.Repeat("x", 64<<10)}))
	call := allowed(t, objects("db-password"))
	call.Volume = n.volume(t, 4096)
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
	if got := reasonOf(t, err); got != provider.VolumeFull {
		t.Errorf("Deliver() = %v, want %s", err, provider.VolumeFull)
	}
}

// TestGrantedPathConflict: what only the volume can find is reported as well.
func TestGrantedPathConflict(t *testing.T) {
	n := newNode(t)
	p := providertest.New(t, decent())
	call := allowed(t, objects("db-password"), func(in *policies.Input) { in.Volume.VolumeMountGroup = nil })
	call.Volume = n.volume(t, 1<<20) // of a group: the mode is beyond its ceiling
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
	if got := reasonOf(t, err); got != provider.ReplyInvalid || !mentions(err, "mode 0444 is beyond the ceiling") {
		t.Errorf("Deliver() = %v, want %s for the mode", err, provider.ReplyInvalid)
	}
}

// BenchmarkDeliver fetches five files of 3 kB over a real socket: into memory,
// and into a new detached tmpfs each time.
func BenchmarkDeliver(b *testing.B) {
	content, names := map[string]string{}, []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		content[name] = strings.Repeat("x", 3000)
	}
	p := providertest.New(b, providertest.Files(content))
	d := deliverer(b, nil, p.Dir)
	call := allowed(b, objects(names...))
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			call.Volume = &providertest.Volume{}
			if _, err := d.Deliver(b.Context(), call); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tmpfs", func(b *testing.B) {
		n := newNode(b)
		for b.Loop() {
			v, err := n.system.NewVolume(hardening.Limits{Bytes: 1 << 20, GID: 2000})
			must(b, err)
			call.Volume = v
			if _, err := d.Deliver(b.Context(), call); err != nil {
				b.Fatal(err)
			}
			must(b, v.Close())
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				own := call
				own.Volume = &providertest.Volume{}
				if _, err := d.Deliver(b.Context(), own); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
