//go:build attack

package attack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const (
	logFile    = "state/audit/epoch-0000000001.db"
	keyFile    = "state/audit/" + auditlog.KeyFileName
	vkeyFile   = "state/audit/" + auditlog.VKeyFileName
	logPage    = 4096
	bit        = 0x10 // that is flipped
	metaBody   = 16   // within a meta page of bbolt
	metaNumber = metaBody + 48
	headFlags  = 8 // within a page of bbolt
)

// logged is a node whose plugin has mounted one volume and was stopped, and a
// pod that has no volume yet.
type logged struct {
	*node
	mounted, other pod
	kept           map[string][]byte // the log's directory
	before         []audit.Event
}

func newLogged(t *testing.T) *logged {
	t.Helper()
	n := newNode(t, "--enable-secret-rotation", "--rotation-poll-interval=1ns")
	n.serve(map[string]string{"password": "first"})
	n.class("db", "password")
	l := &logged{node: n, mounted: n.pod("api-0", 1, "db"), other: n.pod("api-1", 2, "db"), kept: map[string][]byte{}}
	p := n.start()
	must(t, p.publish(l.mounted))
	p.Stop()
	l.before = n.events()
	for _, name := range []string{logFile, keyFile, vkeyFile} {
		l.kept[name] = n.read(name)
	}
	return l
}

// restore puts back what an administrator has kept.
func (l *logged) restore() {
	l.t.Helper()
	if err := os.RemoveAll(l.path("state/audit")); err != nil {
		l.t.Fatal(err)
	}
	for name, content := range l.kept {
		l.write(name, string(content))
	}
}

func (l *logged) flip(name string, at int) {
	l.t.Helper()
	b := l.read(name)
	b[at] ^= bit
	l.write(name, string(b))
}

// flipOneOf flips a bit at the first of these places where that matters: bbolt
// leaves old copies of pages in the file.
func (l *logged) flipOneOf(places []int) {
	l.t.Helper()
	for _, at := range places {
		l.flip(logFile, at)
		if _, err := l.verified(l.path(logFile)); err != nil {
			return
		}
		l.flip(logFile, at)
	}
	l.t.Fatalf("none of %d places is part of the log", len(places))
}

// places returns where a text begins in the log.
func (l *logged) places(text []byte) (list []int) {
	b := l.kept[logFile]
	for at := range b {
		if bytes.HasPrefix(b[at:], text) {
			list = append(list, at)
		}
	}
	return list
}

// flags returns the places of the flags in the headers of all pages but the
// first two, which are meta pages.
func (l *logged) flags() (list []int) {
	for at := 2 * logPage; at < len(l.kept[logFile]); at += logPage {
		list = append(list, at+headFlags)
	}
	return list
}

// newestMeta returns the place of the meta page in force.
func (l *logged) newestMeta() int {
	number := func(page int) uint64 { return binary.LittleEndian.Uint64(l.kept[logFile][page*logPage+metaNumber:]) }
	if number(1) > number(0) {
		return logPage
	}
	return 0
}

// leaf returns the stored bytes of the decision about the mounted volume.
func (l *logged) leaf() (leaf []byte) {
	l.t.Helper()
	_, err := auditlog.Verify(l.t.Context(), auditlog.VerifyConfig{
		Path: l.path(logFile), VKey: string(l.read(vkeyFile)),
		Each: func(_ auditlog.Position, b []byte) error {
			if e, err := audit.Parse(b); err == nil && e.Stage == audit.StageIntent {
				leaf = bytes.Clone(b)
			}
			return nil
		},
	})
	if err != nil || leaf == nil {
		l.t.Fatalf("no decision in the log: %v", err)
	}
	return leaf
}

// hash returns that of a leaf (RFC 6962, section 2.1).
func hash(leaf []byte) []byte {
	sum := sha256.Sum256(append([]byte{0}, leaf...))
	return sum[:]
}

func (l *logged) remove(name string) {
	l.t.Helper()
	if err := os.Remove(l.path(name)); err != nil {
		l.t.Fatal(err)
	}
}

const origin = "test/nodes/" + nodeName

// refusedLogs are damages after which nothing may be granted. Those of the file
// itself are found by audit verify too.
func refusedLogs() map[string]func(*logged) {
	return map[string]func(*logged){
		"file: a bit of both meta pages":     func(l *logged) { l.flip(logFile, metaBody+20); l.flip(logFile, logPage+metaBody+20) },
		"file: a bit of a page header":       func(l *logged) { l.flipOneOf(l.flags()) },
		"file: a bit of an event":            func(l *logged) { l.flipOneOf(l.places(l.leaf())) },
		"file: a bit of a hash":              func(l *logged) { l.flipOneOf(l.places(hash(l.leaf()))) },
		"file: a bit of a checkpoint":        func(l *logged) { l.flipOneOf(l.places([]byte(origin + "/1\n"))) },
		"file: a bit of a signature":         func(l *logged) { l.flipOneOf(l.places([]byte("— " + origin))) },
		"file: a bit of the count of events": func(l *logged) { l.flipOneOf(l.places([]byte("size\x00\x00"))) },
		"file: three pages":                  func(l *logged) { l.write(logFile, string(l.kept[logFile][:3*logPage])) },
		"file: empty":                        func(l *logged) { l.write(logFile, "") },
		"file: garbage":                      func(l *logged) { l.write(logFile, strings.Repeat("not a log\n", 10000)) },
		"file: a directory":                  func(l *logged) { l.remove(logFile); l.write(logFile+"/deeper", "") },
		"file: a pipe": func(l *logged) {
			l.remove(logFile)
			if err := syscall.Mkfifo(l.path(logFile), 0o600); err != nil {
				l.t.Fatal(err)
			}
		},
		"a link": func(l *logged) {
			l.write("elsewhere.db", string(l.kept[logFile]))
			l.remove(logFile)
			if err := os.Symlink(l.path("elsewhere.db"), l.path(logFile)); err != nil {
				l.t.Fatal(err)
			}
		},
		"readable by everybody": func(l *logged) {
			if err := os.Chmod(l.path(logFile), 0o644); err != nil {
				l.t.Fatal(err)
			}
		},
		"a bit of the key": func(l *logged) { l.flip(keyFile, len(l.kept[keyFile])/2) },
		"the key is gone":  func(l *logged) { l.remove(keyFile) },
	}
}

// TestP8ADamagedLogStopsGrantingAndNothingElse starts the plugin with a log that
// is not what it was: bit by bit, whole, or not a file at all.
func TestP8ADamagedLogStopsGrantingAndNothingElse(t *testing.T) {
	for name, damage := range refusedLogs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			damage(l)
			evidence := l.evidence()
			p := l.start()
			l.expectNoGrants(p)
			if got := l.evidence(); got != evidence {
				t.Errorf("the log was %s and is %s, want it left alone", evidence, got)
			}
			p.Kill()
			if out, err := l.runAuditVerify(); (err == nil) == strings.HasPrefix(name, "file: ") {
				t.Errorf("portcullis audit verify = %v\n%s", err, out)
			}
			l.restore()
			l.expectGrants(l.start())
		})
	}
}

// evidence says what is in the place of the log.
func (l *logged) evidence() string {
	l.t.Helper()
	info, err := os.Lstat(l.path(logFile))
	if err != nil {
		l.t.Fatal(err)
	}
	if !info.Mode().IsRegular() {
		return info.Mode().String()
	}
	return fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(l.read(logFile)))
}

// expectNoGrants: not ready and saying why, no new volume, the mounted one kept
// and taken off.
func (l *logged) expectNoGrants(p *plugin) {
	l.t.Helper()
	calls := len(l.provider.Calls())
	if code, text := l.ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, "[-] audit log: ") {
		l.t.Errorf("/readyz = %d, want 503 and the audit log named\n%s", code, text)
	}
	if err := p.publish(l.other); !isUnavailable(err) || !strings.Contains(err.Error(), "audit") {
		l.t.Errorf("publish = %v, want Unavailable and the audit log named", err)
	}
	l.serve(map[string]string{"password": "second"})
	if err := p.publish(l.mounted); err != nil {
		l.t.Errorf("republish = %v, want nil", err)
	}
	if got := len(l.provider.Calls()) - calls; got != 0 {
		l.t.Errorf("the provider was called %d times, want never", got)
	}
	l.expectVolume(l.mounted, map[string]string{"password": "first"})
	if err := p.unpublish(l.mounted); err != nil {
		l.t.Errorf("unpublish = %v, want nil", err)
	}
	l.expectGone(l.mounted)
	if strings.Contains(p.Stderr(), "panic") {
		l.t.Errorf("the plugin panicked:\n%s", p.Stderr())
	}
}

func isUnavailable(err error) bool { return status.Code(err) == codes.Unavailable }

// expectGrants: ready, a new volume is mounted, both come off, and the log
// verifies.
func (l *logged) expectGrants(p *plugin) {
	l.t.Helper()
	if code, text := l.ready(); code != http.StatusOK {
		l.t.Errorf("/readyz = %d, want 200\n%s", code, text)
	}
	if err := p.publish(l.other); err != nil {
		l.t.Errorf("publish = %v, want nil", err)
	}
	for _, v := range []pod{l.mounted, l.other} {
		if err := p.unpublish(v); err != nil {
			l.t.Errorf("unpublish = %v, want nil", err)
		}
	}
	l.expectGone(l.other)
	p.Stop()
	if err := historyOf(l.events()).check(""); err != nil {
		l.t.Error(err)
	}
}

// TestP7ALogSurvivesWhatItHasTwice: one meta page of two, and a public key that
// follows from the private one, can be damaged without loss.
func TestP7ALogSurvivesWhatItHasTwice(t *testing.T) {
	for name, damage := range map[string]func(*logged){
		"the meta page in force":    func(l *logged) { l.flip(logFile, l.newestMeta()+metaBody+20) },
		"the other meta page":       func(l *logged) { l.flip(logFile, logPage-l.newestMeta()+metaBody+20) },
		"the public key":            func(l *logged) { l.flip(vkeyFile, 20) },
		"the public key is gone":    func(l *logged) { l.remove(vkeyFile) },
		"half a log of a new start": func(l *logged) { l.write(logFile+".new", "half") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			damage(l)
			l.expectGrants(l.start())
			after := l.events()
			for i, e := range l.before {
				if i >= len(after) || after[i].ID != e.ID {
					t.Fatalf("event %d of %d (%s) is lost", i, len(l.before), e.Code)
				}
			}
		})
	}
}

// TestP7ALostLogIsOnRecord: the file is gone and its key is there.
func TestP7ALostLogIsOnRecord(t *testing.T) {
	l := newLogged(t)
	l.remove(logFile)
	l.expectGrants(l.start())
	for _, e := range l.events() {
		if e.Type == audit.TypeLogOpened && e.Log.Lost {
			return
		}
	}
	t.Error("no event says that the log was lost")
}

// TestP8ALogThatChangesUnderThePluginStopsGrantingAndNothingElse does the same
// to the log of a plugin that runs. bbolt maps the file: what is cut off it is
// SIGBUS for whoever reads there.
func TestP8ALogThatChangesUnderThePluginStopsGrantingAndNothingElse(t *testing.T) {
	for name, damage := range map[string]func(*logged){
		"truncated": func(l *logged) {
			if err := os.Truncate(l.path(logFile), 2*logPage); err != nil {
				l.t.Fatal(err)
			}
		},
		"emptied": func(l *logged) {
			if err := os.Truncate(l.path(logFile), 0); err != nil {
				l.t.Fatal(err)
			}
		},
		"removed": func(l *logged) { l.remove(logFile) },
		"replaced": func(l *logged) {
			l.write("copy.db", string(l.read(logFile)))
			if err := os.Rename(l.path("copy.db"), l.path(logFile)); err != nil {
				l.t.Fatal(err)
			}
		},
		"moved away with its directory": func(l *logged) {
			if err := os.Rename(l.path("state/audit"), l.path("state/evidence")); err != nil {
				l.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			p := l.start()
			damage(l)
			l.expectNoGrants(p)
			p.Kill()
			l.restore()
			l.expectGrants(l.start())
		})
	}
}

// TestP8ALogThatRotsUnderThePluginCostsOneRestart: bbolt checks pages when it
// comes to them, and ends the process in a goroutine of its own. The next start
// reads the log first, and goes on without granting.
func TestP8ALogThatRotsUnderThePluginCostsOneRestart(t *testing.T) {
	l := newLogged(t)
	p := l.start()
	f, err := os.OpenFile(l.path(logFile), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	b := l.read(logFile)
	for _, at := range l.flags() {
		_, err := f.WriteAt([]byte{b[at] ^ bit}, int64(at))
		must(t, err)
	}
	if err := p.publish(l.other); !isUnavailable(err) {
		t.Errorf("publish = %v, want Unavailable", err)
	}
	must(t, p.AwaitEnd())
	l.expectNoGrants(l.start())
}
