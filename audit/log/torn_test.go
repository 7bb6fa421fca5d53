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

func content(t *testing.T, file string) []byte {
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
