package log_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// TestP7TornWrites plays a power cut at every commit, as bbolt commits: data
// pages in any order, flush, meta page, flush. Before the meta page is there,
// any part of the data may be; a meta page may be torn anywhere. Whatever
// remains must open, with every event that was acknowledged before.
func TestP7TornWrites(t *testing.T) {
	c := config(t)
	file := filepath.Join(c.Dir, auditlog.EpochFile(1))
	l := open(t, c)
	before := content(t, file)
	random := rand.New(rand.NewPCG(1, 2))
	trials := 0
	for commit := range 30 {
		events := 1 + int64(commit/3*2)
		acknowledged := events + int64(commit%3) // what was before this commit
		if commit%3 == 2 {
			if _, err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		} else {
			fill(t, l, commit, 1)
		}
		after := content(t, file)
		for range 4 {
			trials++
			survives(t, c, tornData(before, after, random), acknowledged)
		}
		for cut := 0; cut <= 88; cut += 11 {
			trials++
			survives(t, c, tornMeta(before, after, cut), acknowledged)
		}
		before = after
	}
	if trials < 300 {
		t.Errorf("%d trials, want at least 300", trials)
	}
}

func content(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tornData has some sectors of the new data pages and the old meta pages.
func tornData(before, after []byte, random *rand.Rand) []byte {
	image := append(bytes.Clone(before), make([]byte, max(0, len(after)-len(before)))...)
	for at := 2 * os.Getpagesize(); at+sector <= len(after); at += sector {
		if random.IntN(2) == 0 {
			copy(image[at:at+sector], after[at:])
		}
	}
	return image
}

// tornMeta has all the new data, and the new meta page up to a byte.
func tornMeta(before, after []byte, cut int) []byte {
	image := bytes.Clone(after)
	for page := range 2 {
		at := page * os.Getpagesize()
		if !bytes.Equal(before[at:at+os.Getpagesize()], after[at:at+os.Getpagesize()]) {
			copy(image[at+cut:at+os.Getpagesize()], before[at+cut:])
		}
	}
	return image
}

// survives verifies the image and opens it as the next start would.
func survives(t *testing.T, c auditlog.Config, image []byte, acknowledged int64) {
	t.Helper()
	report, err := auditlog.VerifyReader(t.Context(), auditlog.VerifyConfig{VKey: vkey(t, c.Dir)}, bytes.NewReader(image), int64(len(image)))
	if err != nil || report.Events < acknowledged || report.Events > acknowledged+1 {
		t.Fatalf("Verify(image) = %d events, %v, want %d or one more", report.Events, err, acknowledged)
	}
}

// TestP7TornFileIsUsable opens one torn image with bbolt too, and goes on.
func TestP7TornFileIsUsable(t *testing.T) {
	c := config(t)
	file := filepath.Join(c.Dir, auditlog.EpochFile(1))
	l := open(t, c)
	fill(t, l, 0, 40)
	before := content(t, file)
	fill(t, l, 40, 1)
	after := content(t, file)
	closeLog(t, l)
	random := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		if err := os.WriteFile(file, tornData(before, after, random), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, c)
		if n := len(leaves(t, l)); n != 40 {
			t.Fatalf("len(Each()) = %d, want 40", n)
		}
		fill(t, l, 100, 3)
		closeLog(t, l)
		if r := verified(t, c.Dir); r.Events != 44 {
			t.Errorf("Verify().Events = %d, want 44", r.Events)
		}
	}
}

// TestP7TornRollOver plays a power cut inside each write of a roll-over: the
// next epoch half made, the end of the old one half written.
func TestP7TornRollOver(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 40)
	steps := map[string]string{}
	l.OnStep(func(step string) {
		steps[step] = filepath.Join(t.TempDir(), "audit")
		copyDir(t, c.Dir, steps[step])
	})
	if err := l.RollOver(); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	old, unborn := auditlog.EpochFile(1), auditlog.EpochFile(2)+".new"
	before, after := content(t, filepath.Join(steps["created"], old)), content(t, filepath.Join(steps["closed"], old))
	next := content(t, filepath.Join(steps["created"], unborn))
	random := rand.New(rand.NewPCG(5, 6))
	ended := 0
	crash := func(oldText, nextText []byte) {
		t.Helper()
		c.Dir = filepath.Join(t.TempDir(), "audit")
		copyDir(t, steps["created"], c.Dir)
		for name, text := range map[string][]byte{old: oldText, unborn: nextText} {
			if err := os.WriteFile(filepath.Join(c.Dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := open(t, c)
		if o := l.Opening(); o.Lost || o.Created || len(o.Missing) > 0 {
			t.Errorf("Opening() = %+v, want nothing lost", o)
		}
		ended += len(epochs(t, l)) - 1
		fill(t, l, 100, 2)
		closeLog(t, l)
		if got := len(verifiedAll(t, c.Dir)); got != 42 {
			t.Errorf("the epochs hold %d events, want 42", got)
		}
	}
	for range 6 {
		crash(before, tornData(make([]byte, len(next)), next, random))
		crash(before, next[:random.IntN(len(next))])
		crash(tornData(before, after, random), next)
	}
	for cut := 0; cut <= 88; cut += 11 {
		crash(tornMeta(before, after, cut), next)
	}
	if ended == 0 || ended == 27 {
		t.Errorf("%d of 27 crashes came after the end of the epoch, want some of both", ended)
	}
}
