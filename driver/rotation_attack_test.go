//go:build attack

package driver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
)

// rotating are the files of a volume and how many lines each has: three pages,
// less than one, and in a directory three and two.
func rotating() map[string]int {
	return map[string]int{"password": 400, "user": 3, "tls/key": 300, "tls/cert": 150}
}

const contentPages, boundPages = 9, 8 // bound: password and tls

func rotatingNames() []string { return slices.Sorted(maps.Keys(rotating())) }

func rotatingObjects() string {
	head, _, _ := strings.Cut(objects, "      - objectName")
	for _, name := range rotatingNames() {
		head += "      - objectName: payments/" + name + "\n        objectAlias: " + name + "\n"
	}
	return head
}

// value is what a file holds in one generation: its name and the generation in
// every line, and a digest at the end, so that no part of it looks like a whole.
func value(name string, generation int) string {
	line := fmt.Sprintf("%s of generation %06d\n", name, generation)
	body := strings.Repeat(line, rotating()[name])
	sum := sha256.Sum256([]byte(body))
	return body + hex.EncodeToString(sum[:])
}

// generationOf says of which generation a file is, if it is whole.
func generationOf(name string, text []byte) (int, error) {
	var generation int
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if _, err := fmt.Sscanf(string(line), name+" of generation %06d", &generation); err != nil {
		return 0, fmt.Errorf("%s: %d bytes that begin with no generation", name, len(text))
	}
	if string(text) != value(name, generation) {
		return 0, fmt.Errorf("%s: %d bytes, not those of generation %d", name, len(text), generation)
	}
	return generation, nil
}

// readings is what the readers of one volume have met.
type readings struct {
	linger time.Duration // that a rotation leaves to readers on their way

	whole, late                               atomic.Int64
	missing, broken, backwards, mixed, pinned atomic.Int64
	mu                                        sync.Mutex
	first                                     error
	generations                               sync.Map
	quiet                                     sync.RWMutex // held while memory is measured
}

func (r *readings) wrong(n *atomic.Int64, err error) {
	n.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil {
		r.first = err
	}
}

// notThere judges a file that was not found. Whoever began before a rotation
// and was held up for longer than it lingers may be too late; nobody else.
func (r *readings) notThere(begin time.Time, err error) {
	if time.Since(begin) >= r.linger {
		r.late.Add(1)
		return
	}
	r.wrong(&r.missing, err)
}

func (r *readings) saw(generation int) {
	r.whole.Add(1)
	r.generations.Store(generation, true)
}

func (r *readings) seen() (n int) {
	r.generations.Range(func(any, any) bool { n++; return true })
	return n
}

func (r *readings) String() string {
	return fmt.Sprintf("%d whole of %d generations, %d too late, %d missing, %d broken, %d backwards, %d mixed, %d of those held",
		r.whole.Load(), r.seen(), r.late.Load(), r.missing.Load(), r.broken.Load(), r.backwards.Load(), r.mixed.Load(), r.pinned.Load())
}

// byPath reads every file by its path. What one read has shown, no later one
// may go behind.
func (r *readings) byPath(dir string, last *int) {
	for _, name := range rotatingNames() {
		begin := time.Now()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			r.notThere(begin, err)
			continue
		}
		generation, err := generationOf(name, text)
		if err != nil {
			r.wrong(&r.broken, err)
			continue
		}
		if generation < *last {
			r.wrong(&r.backwards, fmt.Errorf("%s of generation %d after %d", name, generation, *last))
		}
		*last = generation
		r.saw(generation)
	}
}

// byHandle opens ..data once and reads every file below that handle.
func (r *readings) byHandle(dir string) {
	begin := time.Now()
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if err != nil {
		r.notThere(begin, err)
		return
	}
	defer root.Close()
	first := 0
	for _, name := range rotatingNames() {
		text, err := root.ReadFile(name)
		if err != nil {
			r.notThere(begin, err)
			return
		}
		generation, err := generationOf(name, text)
		if err != nil {
			r.wrong(&r.broken, err)
			return
		}
		if first != 0 && generation != first {
			r.wrong(&r.mixed, fmt.Errorf("%s of generation %d beside one of %d", name, generation, first))
		}
		first = generation
	}
	r.saw(first)
}

// during runs readers while rotate runs, with a pause after each round.
func (r *readings) during(rotate func(), pause time.Duration, readers ...func()) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, read := range readers {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.quiet.RLock()
					read()
					r.quiet.RUnlock()
					time.Sleep(pause)
				}
			}
		})
	}
	defer group.Wait()
	defer close(stop)
	rotate()
}

// watchers are the readers of a volume that hold nothing.
func (r *readings) watchers(dir string) []func() {
	var first, second int
	return []func(){
		func() { r.byPath(dir, &first) }, func() { r.byPath(dir, &second) }, func() { r.byHandle(dir) },
	}
}

// pins are what somebody holds of the first generation.
type pins struct {
	r         *readings
	file      *os.File
	dir       *os.Root
	boundFile string // subPath: password
	boundDir  string // subPath: tls
}

func pinFirst(t *testing.T, r *readings, dir string) *pins {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "password"))
	check(t, err)
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	check(t, err)
	p := &pins{r: r, file: file, dir: root, boundFile: bound(t, dir, "password"), boundDir: bound(t, dir, "tls")}
	t.Cleanup(func() { check(t, errors.Join(file.Close(), root.Close())) })
	return p
}

// bound does what the kubelet does for a container with this subPath: it binds
// what the path leads to now.
func bound(t *testing.T, dir, path string) string {
	t.Helper()
	source, err := filepath.EvalSymlinks(filepath.Join(dir, path))
	check(t, err)
	info, err := os.Stat(source)
	check(t, err)
	target := filepath.Join(t.TempDir(), "subpath")
	if info.IsDir() {
		check(t, os.Mkdir(target, 0o700))
	} else {
		check(t, os.WriteFile(target, nil, 0o600))
	}
	check(t, unix.Mount(source, target, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(target, unix.MNT_DETACH)) })
	return target
}

// read looks at everything that is held: the first generation, for ever.
func (p *pins) read() {
	held, err := io.ReadAll(io.NewSectionReader(p.file, 0, 1<<20))
	p.same("password", held, err)
	for name, path := range map[string]string{
		"password": p.boundFile, "tls/key": filepath.Join(p.boundDir, "key"), "tls/cert": filepath.Join(p.boundDir, "cert"),
	} {
		text, err := os.ReadFile(path)
		p.same(name, text, err)
	}
	// A directory that is merely open is emptied, but for what a subPath shows.
	text, err := p.dir.ReadFile("tls/key")
	p.same("tls/key", text, err)
	if text, err := p.dir.ReadFile("user"); !errors.Is(err, fs.ErrNotExist) {
		p.same("user", text, err)
	}
}

func (p *pins) same(name string, text []byte, err error) {
	if err != nil || string(text) != value(name, 1) {
		p.r.wrong(&p.r.pinned, fmt.Errorf("%s that was held: %d bytes, %w", name, len(text), err))
	}
}

// TestP4P9ReadersOverAThousandGenerations rotates a thousand times under the
// eyes of every kind of reader.
func TestP4P9ReadersOverAThousandGenerations(t *testing.T) {
	for name, pinned := range map[string]bool{"nothing held": false, "the first generation held": true} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) { testGenerations(t, pinned, protection) })
		})
	}
}

func testGenerations(t *testing.T, pinned bool, protection func(*setup)) {
	const generations, checkEvery, linger = 1000, 111, 2 * time.Millisecond
	var current atomic.Int64
	n := newNode(t, protection, func(s *setup) {
		s.linger = linger
		s.provider.Handler = func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			content := map[string]string{}
			for _, name := range rotatingNames() {
				content[name] = value(name, int(current.Load()))
			}
			return providertest.Response(content), nil
		}
	})
	n.write("objects.yaml", rotatingObjects())
	current.Store(1)
	before := n.counted()["locked kB"]
	n.mustPublish(apiPod())
	r := &readings{linger: linger}
	readers := r.watchers(n.target(apiPod()))
	held := &pins{}
	if pinned {
		held = pinFirst(t, r, n.target(apiPod()))
		readers = append(readers, held.read)
	}
	var heap int64
	rotations := 0
	r.during(func() {
		for g := 2; g <= generations; g++ {
			current.Store(int64(g))
			n.clock.advance(2 * refreshInterval)
			n.mustPublish(apiPod())
			if g%checkEvery != 0 {
				continue
			}
			r.quiet.Lock()
			n.expectMemory(pinned, n.counted()["locked kB"]-before)
			rotations += n.countRotations()
			if now := n.heap(); heap == 0 {
				heap = now
			} else if now-heap > 1<<20 {
				t.Errorf("heap after %d generations = %d bytes more", g, now-heap)
			}
			r.quiet.Unlock()
		}
	}, 2*time.Millisecond, readers...)
	t.Log(r)
	for bad := r.missing.Load() + r.broken.Load() + r.backwards.Load() + r.mixed.Load() + r.pinned.Load(); bad > 0; bad = 0 {
		t.Errorf("readers saw %d wrong things, the first: %v", bad, r.first)
	}
	if r.seen() < generations/2 || r.whole.Load() < 4*generations {
		t.Errorf("readers saw %d generations in %d reads, want half of them in four times as many: no race, no proof", r.seen(), r.whole.Load())
	}
	for deadline := time.Now().Add(time.Minute); rotations < generations-1 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		rotations += n.countRotations()
	}
	if rotations != generations-1 {
		t.Errorf("rotations in the log = %d, want %d", rotations, generations-1)
	}
	n.mustUnpublish(apiPod())
	if pinned { // an unpublish spares nothing that is held
		for _, path := range []string{held.boundFile, filepath.Join(held.boundDir, "key")} {
			if text, _ := os.ReadFile(path); len(text) > 0 {
				t.Errorf("%s after the unpublish: %d bytes, want none", filepath.Base(path), len(text))
			}
		}
	}
	n.expectNothing(apiPod())
	if locked := n.counted()["locked kB"] - before; locked != 0 {
		t.Errorf("locked after the unpublish = %d kB, want none", locked)
	}
}

// expectMemory looks at the volume: its content, what is pinned, room for the
// next generation and a page, whatever the number of generations.
func (n *node) expectMemory(pinned bool, lockedKB int64) {
	n.t.Helper()
	used, locked := int64(contentPages), int64(0)
	if pinned {
		used += boundPages
	}
	if n.volumes.Protection() == hardening.ProtectionMlock {
		if locked = contentPages; pinned {
			locked += boundPages
		}
	}
	stats, err := n.csi.NodeGetVolumeStats(n.t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: n.target(apiPod())})
	if err != nil {
		n.t.Error(err)
		return
	}
	bytes, least := stats.GetUsage()[0], used+contentPages+1
	// A reader that was at a file when its generation went had it counted once.
	most := least + contentPages
	if bytes.GetUsed() != used*page || bytes.GetTotal() < least*page || bytes.GetTotal() > most*page || n.inUse() != bytes.GetTotal() || lockedKB != locked*page>>10 {
		n.t.Errorf("volume holds %d of %d pages, %d in the budget, %d kB locked, want %d of %d to %d and %d kB",
			bytes.GetUsed()/page, bytes.GetTotal()/page, n.inUse()/page, lockedKB, used, least, most, locked*page>>10)
	}
}

// countRotations takes the events out of the memory log and counts rotations.
func (n *node) countRotations() (rotations int) {
	n.t.Helper()
	n.log.mu.Lock()
	leaves := n.log.leaves
	n.log.leaves = nil
	n.log.mu.Unlock()
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			n.t.Error(err)
		}
		if e.Type == audit.TypeRotate && e.Stage == audit.StageComplete && e.Outcome == audit.OutcomeSuccess {
			rotations++
		}
	}
	return rotations
}

// TestP4ControlReadersSeeBadRotations: the readers above must notice each of
// the ways in which it is done wrong, or they prove nothing.
func TestP4ControlReadersSeeBadRotations(t *testing.T) {
	put := func(dir string, generation int) error {
		for _, name := range rotatingNames() {
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700),
				os.WriteFile(filepath.Join(dir, name), []byte(value(name, generation)), 0o600)); err != nil {
				return err
			}
		}
		return nil
	}
	swap := func(dir, generation string) error {
		next := filepath.Join(dir, "..data.next")
		return errors.Join(os.Symlink(generation, next), os.Rename(next, filepath.Join(dir, "..data")))
	}
	tests := map[string]struct {
		rotate func(dir string, g int) error
		caught func(*readings) *atomic.Int64
	}{
		"rewritten in place": {
			func(dir string, g int) error { return put(filepath.Join(dir, "..data"), g) },
			func(r *readings) *atomic.Int64 { return &r.broken },
		},
		"file by file": {
			func(dir string, g int) error {
				if err := put(filepath.Join(dir, "..new"), g); err != nil {
					return err
				}
				var errs []error
				for _, name := range rotatingNames() {
					errs = append(errs, os.Rename(filepath.Join(dir, "..new", name), filepath.Join(dir, "..data", name)))
				}
				return errors.Join(errs...)
			},
			func(r *readings) *atomic.Int64 { return &r.mixed },
		},
		"removed at once": {
			func(dir string, g int) error {
				name := fmt.Sprint("..", g)
				return errors.Join(put(filepath.Join(dir, name), g), swap(dir, name), os.RemoveAll(filepath.Join(dir, fmt.Sprint("..", g-1))))
			},
			func(r *readings) *atomic.Int64 { return &r.missing },
		},
		"set back": {
			func(dir string, g int) error {
				name := fmt.Sprint("..", 1+g%2)
				return errors.Join(put(filepath.Join(dir, "..2"), 2), swap(dir, name))
			},
			func(r *readings) *atomic.Int64 { return &r.backwards },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, "tmpfs")
			check(t, put(filepath.Join(dir, "..1"), 1))
			check(t, swap(dir, "..1"))
			for _, name := range []string{"password", "user", "tls"} {
				check(t, os.Symlink("..data/"+name, filepath.Join(dir, name)))
			}
			r := &readings{linger: time.Hour}
			deadline := time.Now().Add(time.Minute)
			r.during(func() {
				for g := 2; tt.caught(r).Load() == 0 && time.Now().Before(deadline); g++ {
					check(t, tt.rotate(dir, g))
				}
			}, 0, r.watchers(dir)...)
			if t.Log(r); tt.caught(r).Load() == 0 {
				t.Error("readers saw nothing wrong, want it caught")
			}
		})
	}
}
