package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// FuzzVerify reads any bytes as a log. There must be an answer: no panic, no
// endless loop, and no verdict of "unaltered" for a file whose events differ.
func FuzzVerify(f *testing.F) {
	c := config(f)
	l := open(f, c)
	for i := range 39 {
		if _, err := l.Append(f.Context(), event(fmt.Sprint(i), "2026-01-15T12:00:00Z", "")); err != nil {
			f.Fatal(err)
		}
	}
	closeLog(f, l)
	good, err := os.ReadFile(filepath.Join(c.Dir, auditlog.EpochFile(1)))
	if err != nil {
		f.Fatal(err)
	}
	key := vkey(f, c.Dir)
	var want bytes.Buffer
	read := func(ctx context.Context, text []byte, into *bytes.Buffer) (auditlog.Report, error) {
		return auditlog.VerifyReader(ctx, auditlog.VerifyConfig{VKey: key, Each: func(_ auditlog.Position, leaf []byte) error {
			into.Write(append(leaf, '\n'))
			return nil
		}}, bytes.NewReader(text), int64(len(text)))
	}
	if _, err := read(f.Context(), good, &want); err != nil {
		f.Fatal(err)
	}
	page := os.Getpagesize()
	for at := 0; at+16 < len(good) && at < 12*page; at += page {
		f.Add(uint32(at), good[at:at+16])        // headers
		f.Add(uint32(at+8), []byte{1, 0})        // page type
		f.Add(uint32(at+10), []byte{0xff, 0xff}) // element count
		f.Add(uint32(at+12), []byte{0xff, 0xff}) // overflow
		f.Add(uint32(at+16), bytes.Repeat([]byte{0xff}, 16))
		f.Add(uint32(at+24), []byte{2, 0, 0, 0}) // child pages
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		text := bytes.Clone(good)
		if int(at) < len(text) {
			copy(text[at:], change)
		} else {
			text = change
		}
		var got bytes.Buffer
		report, err := read(t.Context(), text, &got)
		if err != nil {
			if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
				t.Errorf("Verify() = %v, want a TamperedError", err)
			}
			return
		}
		if report.Tail == 0 && report.Events == 40 && got.String() != want.String() {
			t.Errorf("Verify() accepted other events:\n%s", got.String())
		}
		if report.Events < 40 && report.Checkpoints > 1 {
			t.Errorf("Verify() accepted %d events of 40", report.Events)
		}
	})
}
