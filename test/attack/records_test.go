//go:build attack

package attack_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// damages are what a disk, a crash or an administrator can do to volumes.db.
func damages() map[string]func(t *testing.T, file string, content []byte) {
	write := func(change func([]byte) []byte) func(*testing.T, string, []byte) {
		return func(t *testing.T, file string, content []byte) {
			must(t, os.WriteFile(file, change(content), 0o600))
		}
	}
	return map[string]func(*testing.T, string, []byte){
		"missing":      func(t *testing.T, file string, _ []byte) { must(t, os.Remove(file)) },
		"empty":        write(func([]byte) []byte { return nil }),
		"truncated":    write(func(b []byte) []byte { return b[:len(b)/2] }),
		"line lost":    write(func(b []byte) []byte { return b[:strings.LastIndex(strings.TrimSpace(string(b)), "\n")+1] }),
		"bit flipped":  write(func(b []byte) []byte { b[len(b)/2] ^= 4; return b }),
		"sum flipped":  write(func(b []byte) []byte { b[3] ^= 1; return b }),
		"garbage":      write(func(b []byte) []byte { return []byte(strings.Repeat("\x00\xffnot a record\n", len(b))) }),
		"not readable": func(t *testing.T, file string, _ []byte) { must(t, os.Chmod(file, 0)) }, // root reads it all the same
		"sparse and huge": func(t *testing.T, file string, _ []byte) {
			must(t, os.Truncate(file, 128<<20))
		},
		"a directory": func(t *testing.T, file string, _ []byte) {
			must(t, os.Remove(file))
			must(t, os.MkdirAll(filepath.Join(file, "deeper"), 0o700))
		},
		"a link out": func(t *testing.T, file string, content []byte) {
			elsewhere := filepath.Join(t.TempDir(), "volumes.db")
			must(t, os.WriteFile(elsewhere, content, 0o600))
			must(t, os.Remove(file))
			must(t, os.Symlink(elsewhere, file))
		},
		"a link to itself": func(t *testing.T, file string, _ []byte) {
			must(t, os.Remove(file))
			must(t, os.Symlink("volumes.db", file))
		},
		// Opening one for reading waits for a writer (fifo(7)).
		"a pipe": func(t *testing.T, file string, _ []byte) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o600))
		},
		"set aside before": func(t *testing.T, file string, content []byte) {
			must(t, os.MkdirAll(file+".unreadable/deeper", 0o700))
			must(t, os.WriteFile(file, content[1:], 0o600))
		},
		"not replaceable": func(t *testing.T, file string, content []byte) {
			must(t, os.MkdirAll(file+".next/deeper", 0o700))
			must(t, os.WriteFile(file, content[1:], 0o600))
		},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestP8NoVolumesDBKeepsThePluginFromItsWork damages volumes.db in every way:
// the plugin starts and is ready, the mounted volumes stay, rotate and come off,
// and the budget is the mount table's.
func TestP8NoVolumesDBKeepsThePluginFromItsWork(t *testing.T) {
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "--enable-secret-rotation", "--rotation-poll-interval=1ns")
			n.serve(map[string]string{"password": "first"})
			n.class("db", "password")
			pods := []pod{n.pod("api-0", 1, "db"), n.pod("api-1", 2, "db")}
			p := n.start()
			for _, v := range pods {
				must(t, p.publish(v))
			}
			used := n.metric(budgetMetric)
			p.Stop()
			damage(t, n.path("state/volumes.db"), n.read("state/volumes.db"))
			p = n.start()
			if code, text := n.ready(); code != http.StatusOK {
				t.Errorf("/readyz = %d, want 200: a hint is lost, and nothing else\n%s", code, text)
			}
			if got := n.metric(budgetMetric); got != used || used <= 0 {
				t.Errorf("budget in use = %d, want the %d of before", got, used)
			}
			n.serve(map[string]string{"password": "second"})
			for _, v := range pods {
				must(t, p.publish(v))
				n.expectContent(v, map[string]string{"password": "second"})
			}
			for _, v := range pods {
				must(t, p.unpublish(v))
			}
			n.expectGone(pods[0])
			n.expectGone(pods[1])
			if got := n.metric(budgetMetric); got != 0 {
				t.Errorf("budget in use after the last unpublish = %d, want 0", got)
			}
			p.Stop()
			if err := historyOf(n.events()).check(""); err != nil {
				t.Error(err)
			}
		})
	}
}

const budgetMetric = "portcullis_volume_budget_used_bytes"

// metric returns the value of a metric that has one series.
func (n *node) metric(name string) int64 {
	n.t.Helper()
	_, text := n.get(n.metrics, "/metrics")
	m := regexp.MustCompile(`(?m)^` + name + `(?:\{.*\})? (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		n.t.Fatalf("no metric %s in\n%s", name, text)
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return int64(value)
}

// TestNamespaceBudgetSurvivesTheLossOfVolumesDB: which namespace a mounted
// volume belongs to is known again with its first republish, also where nothing
// is fetched again.
func TestNamespaceBudgetSurvivesTheLossOfVolumesDB(t *testing.T) {
	for _, rotation := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotation=%t", rotation), func(t *testing.T) {
			// A quarter of it is room for a small volume beside no large one.
			n := newNode(t, fmt.Sprintf("--enable-secret-rotation=%t", rotation), "--rotation-poll-interval=1ns", "--max-volume-bytes=16384", "--max-node-bytes=180224")
			n.serve(map[string]string{"password": "first"})
			n.class("db", "password")
			one, two := n.pod("api-0", 1, "db"), n.pod("api-1", 2, "db")
			p := n.start()
			must(t, p.publish(one))
			expectCode(t, p.publish(two), codes.ResourceExhausted)
			p.Stop()
			must(t, os.Remove(n.path("state/volumes.db")))
			p = n.start()
			must(t, p.publish(one))
			expectCode(t, p.publish(two), codes.ResourceExhausted)
			must(t, p.unpublish(one))
			must(t, p.publish(two))
			must(t, p.unpublish(two))
			p.Stop()
		})
	}
}

func expectCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("the call = %v (%v), want %v", got, err, want)
	}
}

// TestP8AStateDirectoryThatCannotBeWritten: without room, and without
// permission, nothing is granted; what is mounted stays, and comes off.
func TestP8AStateDirectoryThatCannotBeWritten(t *testing.T) {
	for name, seal := range map[string]func(n *node) (undo func()){
		"full": func(n *node) func() {
			filler := n.path("state/filler")
			f, err := os.Create(filler)
			if err != nil {
				n.t.Fatal(err)
			}
			defer f.Close()
			for page := make([]byte, 4096); err == nil; {
				_, err = f.Write(page)
			}
			return func() { _ = os.Remove(filler) }
		},
		"read-only": func(n *node) func() {
			if err := unix.MountSetattr(unix.AT_FDCWD, n.path("state"), 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
				n.t.Fatal(err)
			}
			return func() {
				if err := unix.MountSetattr(unix.AT_FDCWD, n.path("state"), 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
					n.t.Fatal(err)
				}
			}
		},
	} {
		for _, damaged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, volumes.db damaged: %t", name, damaged), func(t *testing.T) {
				n := newNode(t, "--enable-secret-rotation", "--rotation-poll-interval=1ns")
				must(t, unix.Mount("state", n.path("state"), "tmpfs", 0, "mode=0700,size=8m"))
				n.serve(map[string]string{"password": "first"})
				n.class("db", "password")
				mounted, other := n.pod("api-0", 1, "db"), n.pod("api-1", 2, "db")
				p := n.start()
				must(t, p.publish(mounted))
				p.Stop()
				if damaged {
					must(t, os.WriteFile(n.path("state/volumes.db"), []byte("damaged"), 0o600))
				}
				undo := seal(n)
				p = n.start()
				n.serve(map[string]string{"password": "second"})
				must(t, p.publish(mounted))
				n.expectContent(mounted, map[string]string{"password": "first"})
				expectCode(t, p.publish(other), codes.Unavailable)
				if code, text := n.ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, "[-] audit log: ") {
					t.Errorf("/readyz = %d, want 503 and the audit log named\n%s", code, text)
				}
				must(t, p.unpublish(mounted))
				n.expectGone(mounted)
				p.Kill()
				undo()
				p = n.start()
				must(t, p.publish(other))
				must(t, p.unpublish(other))
				p.Stop()
				if err := historyOf(n.events()).check(""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestP8AVolumeThatAnswersNoOpenKeepsNoPluginFromStarting: under mlock a start
// opens what is mounted, and a container with CAP_SYS_ADMIN can make each open
// in its volume wait for ever (fanotify(7)).
func TestP8AVolumeThatAnswersNoOpenKeepsNoPluginFromStarting(t *testing.T) {
	n := newNode(t, "--swap-protection=mlock")
	n.serve(map[string]string{"password": "first"})
	n.class("db", "password")
	hostile, other := n.pod("api-0", 1, "db"), n.pod("api-1", 2, "db")
	p := n.start()
	for _, v := range []pod{hostile, other} {
		must(t, p.publish(v))
	}
	p.Kill()
	var st unix.Stat_t
	must(t, unix.Stat(hostile.target, &st))
	files := map[pod][]string{hostile: filesWithContent(t, hostile.target), other: filesWithContent(t, other.target)}
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		hardeningtest.Missing(t, "fanotify is not available: "+err.Error())
	}
	letGo := sync.OnceFunc(func() { _ = unix.Close(group) })
	defer letGo()
	must(t, unix.FanotifyMark(group, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_PERM|unix.FAN_ONDIR, unix.AT_FDCWD, hostile.target))
	p = n.start()
	locked := p.locked()
	if len(files[hostile]) != 1 || locked[files[hostile][0]] {
		t.Errorf("the file of a volume that answers no open is locked: it was not held up, so this proves nothing")
	}
	if len(files[other]) != 1 || !locked[files[other][0]] {
		t.Errorf("the file of the other volume is not locked")
	}
	if code, text := n.ready(); code != http.StatusOK || !strings.Contains(text, "[!] swap protection: pages of some volumes are not locked") {
		t.Errorf("/readyz = %d, want 200 and a warning\n%s", code, text)
	}
	must(t, p.unpublish(hostile))
	must(t, p.unpublish(other))
	n.expectGone(hostile)
	n.expectGone(other)
	letGo()
	plugintest.Eventually(t, "the volume that was held up", func() error {
		if p.opens(st.Dev) {
			return errors.New("is still open")
		}
		return nil
	})
	p.Stop()
}
