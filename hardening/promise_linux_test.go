package hardening_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// sightings is what a process that loops over readdir(target) has seen.
type sightings struct {
	empty, partial, full atomic.Int64
	pause                sync.RWMutex // held while the volume goes away
}

// watch reads dir until stop is closed; all is how many names a complete
// volume shows.
func (s *sightings) watch(dir string, all int, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		s.pause.RLock()
		entries, err := os.ReadDir(dir)
		s.pause.RUnlock()
		switch {
		case err != nil:
		case len(entries) == 0:
			s.empty.Add(1)
		case len(entries) < all:
			s.partial.Add(1)
		default:
			s.full.Add(1)
		}
	}
}

// TestP4NoPartialVolume is the promise that a pod never sees part of a volume:
// a reader loops during 400 publishes of 20 files. The same reader must catch
// the usual way of doing it, or it proves nothing.
func TestP4NoPartialVolume(t *testing.T) {
	const publishes, perVolume = 400, 20
	var files []hardening.File
	for i := range perVolume {
		files = append(files, valued(fmt.Sprintf("secret-%02d", i), "value"))
	}
	eachProtection(t, func(t *testing.T, n *node) {
		target, dir := n.place(t, "vol")
		s := observe(t, dir, perVolume+2, func(s *sightings) {
			for range publishes {
				v := n.volume(t, grouped)
				check(t, "fill", v.Fill(files))
				check(t, "attach", v.Attach(target))
				check(t, "close", v.Close())
				s.pause.Lock()
				_, err := target.Detach()
				check(t, "detach", err)
				check(t, "prepare", target.Prepare())
				s.pause.Unlock()
			}
		})
		t.Logf("attached complete: empty %d, partial %d, full %d", s.empty.Load(), s.partial.Load(), s.full.Load())
		if s.partial.Load() != 0 || s.full.Load() == 0 {
			t.Errorf("reader saw %d partial and %d full volumes, want none and some", s.partial.Load(), s.full.Load())
		}
	})
}

// TestP4ControlSeesPartialVolume shows that the reader above can see what it
// must not see: here the files are written after the mount.
func TestP4ControlSeesPartialVolume(t *testing.T) {
	const publishes, perVolume = 400, 20
	n := newNode(t, hardening.SettingMlock)
	_, dir := n.place(t, "vol")
	s := observe(t, dir, perVolume, func(s *sightings) {
		for range publishes {
			mountTmpfs(t, "control", dir)
			for i := range perVolume {
				check(t, "write", os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte("value"), 0o400))
			}
			s.pause.Lock()
			check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
			s.pause.Unlock()
		}
	})
	t.Logf("written after the mount: empty %d, partial %d, full %d", s.empty.Load(), s.partial.Load(), s.full.Load())
	if s.partial.Load() == 0 {
		t.Error("reader saw no partial volume although files were written after the mount: it proves nothing")
	}
}

// observe runs f while a reader watches.
func observe(t *testing.T, dir string, all int, f func(*sightings)) *sightings {
	t.Helper()
	s := &sightings{}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { s.watch(dir, all, stop) })
	defer reader.Wait()
	defer close(stop)
	f(s)
	return s
}

// TestP4OneGenerationPerHandle is the other half of the promise: a reader that
// opens ..data once and reads below that handle sees one generation, during
// 200 rotations.
func TestP4OneGenerationPerHandle(t *testing.T) {
	const rotations = 200
	pair := func(i int) []hardening.File {
		return []hardening.File{valued("cert", strconv.Itoa(i)), valued("key", strconv.Itoa(i))}
	}
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, pair(0)...)
		stop := make(chan struct{})
		var pairs, mixed atomic.Int64
		var reader sync.WaitGroup
		reader.Go(func() { readPairs(dir, &pairs, &mixed, stop) })
		for i := 1; i <= rotations; i++ {
			changed, err := v.Replace(pair(i))
			if err != nil || !changed {
				t.Errorf("Replace(%d) = %v, %v, want true, nil", i, changed, err)
				break
			}
		}
		close(stop)
		reader.Wait()
		t.Logf("%d pairs read, %d mixed", pairs.Load(), mixed.Load())
		if mixed.Load() != 0 || pairs.Load() == 0 {
			t.Errorf("reader saw %d mixed of %d pairs, want none of some", mixed.Load(), pairs.Load())
		}
	})
}

func readPairs(dir string, pairs, mixed *atomic.Int64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		root, err := os.OpenRoot(filepath.Join(dir, "..data"))
		if err != nil {
			continue
		}
		cert, err1 := root.ReadFile("cert")
		key, err2 := root.ReadFile("key")
		_ = root.Close()
		if err1 != nil || err2 != nil {
			continue // the generation went away meanwhile: open ..data again
		}
		pairs.Add(1)
		if string(cert) != string(key) || len(cert) == 0 {
			mixed.Add(1)
		}
	}
}

var (
	member   = identity{uid: 1000, gid: 1000, groups: []uint32{2000}}
	stranger = identity{uid: 1001, gid: 1001}
	sameUser = identity{uid: 1000, gid: 1000}
	mate     = identity{uid: 1001, gid: 1001, groups: []uint32{2000}}
)

// TestP6Readers runs real processes of other users against volumes with and
// without an fsGroup.
func TestP6Readers(t *testing.T) {
	const denied = "permission denied"
	shared := file("shared", 0o440)
	open := file("open", 0o444)
	private := owned("private", 1000, 0o400)
	tests := []struct {
		name   string
		limits hardening.Limits
		file   hardening.File
		who    identity
		want   string // what the process answers
	}{
		{"member of the fsGroup", grouped, shared, member, "value of shared"},
		{"another member", grouped, shared, mate, "value of shared"},
		{"stranger", grouped, shared, stranger, denied},
		{"same uid without the group", grouped, shared, sameUser, denied},
		{"owner of a private file", grouped, private, member, "value of private"},
		{"member beside the owner", grouped, private, mate, denied},
		{"owner who is no member", grouped, private, sameUser, denied},
		{"anybody without an fsGroup", anyone, open, stranger, "value of open"},
		{"owner without an fsGroup", anyone, private, sameUser, "value of private"},
		{"stranger beside the owner", anyone, private, stranger, denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, _, dir := n.publish(t, "vol", tt.limits, tt.file)
				if got := as(t, tt.who, dir, "read "+tt.file.Path); got != tt.want {
					t.Errorf("%v reads %q: %q, want %q", tt.who, tt.file.Path, got, tt.want)
				}
			})
		})
	}
}

// TestP6NobodyWrites tries to write as every user, also through a mount that
// somebody made writable: there only the modes are left.
func TestP6NobodyWrites(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, _, dir := n.publish(t, "group", grouped, file("shared", 0o440), owned("private", 1000, 0o400))
		_, _, openDir := n.publish(t, "all", anyone, file("open", 0o444))
		places := map[string]string{"group": dir, "all": openDir, "group writable": privileged(t, dir), "all writable": privileged(t, openDir)}
		for place, d := range places {
			for _, who := range []identity{member, stranger, sameUser, mate} {
				for _, job := range []string{"write shared", "write private", "write open", "create new", "create ..data/new"} {
					got := as(t, who, d, job)
					if !strings.Contains(got, "denied") && !strings.Contains(got, "read-only") && !strings.Contains(got, "no such file") {
						t.Errorf("%v in %s: %s: %q, want a refusal", who, place, job, got)
					}
				}
			}
		}
	})
}

// TestP6ModesOnDisk reads the modes back, whatever was asked for.
func TestP6ModesOnDisk(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		// The process's umask must not decide about the modes of secrets.
		old := unix.Umask(0o777)
		defer unix.Umask(old)
		v := n.volume(t, grouped)
		check(t, "fill", v.Fill([]hardening.File{file("a", 0o440), owned("b", 5, 0o400), file("d/c", 0o040)}))
		files, err := v.Files()
		check(t, "Files()", err)
		want := map[string]fs.FileMode{"a": 0o440, "b": 0o400, "d/c": 0o040}
		for _, f := range files {
			if f.Mode != want[f.Path] || f.GID != 2000 {
				t.Errorf("%q has mode %v and group %d, want %v and 2000", f.Path, f.Mode, f.GID, want[f.Path])
			}
		}
		if len(files) != len(want) {
			t.Errorf("Files() = %v, want %d files", files, len(want))
		}
	})
}
