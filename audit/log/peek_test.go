package log_test

import (
	"bytes"
	"os"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// FuzzClosedEpoch reads any bytes as a closed epoch, by place and as a whole, as
// a start and a reader of the running log do. There must be an answer: no panic,
// no endless loop, and no other leaf under a summary that is believed.
func FuzzClosedEpoch(f *testing.F) {
	c := config(f)
	l := open(f, c)
	rolled(f, l, 0, 60)
	closeLog(f, l)
	good, key := content(f, epochFile(c, 1)), vkey(f, c.Dir)
	want, err := auditlog.ReadClosed(f.TempDir(), good, key)
	if err != nil || want.Size != 62 {
		f.Fatalf("ReadClosed() = %+v, %v, want 62 leaves", want, err)
	}
	page := os.Getpagesize()
	for at := 0; at+24 < len(good); at += page {
		f.Add(uint32(at), good[at:at+16])
		f.Add(uint32(at+8), []byte{1, 0})
		f.Add(uint32(at+10), []byte{0xff, 0xff})
		f.Add(uint32(at+12), []byte{0xff, 0xff})
		f.Add(uint32(at+16), bytes.Repeat([]byte{0xff}, 16))
		f.Add(uint32(at+24), []byte{2, 0, 0, 0})
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		text := bytes.Clone(good)
		if int(at) < len(text) {
			copy(text[at:], change)
		} else {
			text = change
		}
		got, err := auditlog.ReadClosed(dir, text, key)
		if err == nil && (got.Size != want.Size || got.Root != want.Root) {
			t.Errorf("ReadClosed() = %+v, want %+v or an error", got, want)
		}
	})
}
