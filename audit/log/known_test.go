package log_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func TestReadCheckpoints(t *testing.T) {
	p := newPen(t, origin)
	d := begin(t, p, 7, nothing(t), 9)
	one, two := d.checkpoint(t, 4, p.signer), d.checkpoint(t, 10, p.signer)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name  string
		text  []byte
		sizes []int64 // nil for an error
		want  string
	}{
		{"one", one, []int64{4}, ""},
		{"two", join(one, two), []int64{4, 10}, ""},
		{"two with empty lines around", join([]byte("\n\n"), one, []byte("\n \n"), two, []byte("\n")), []int64{4, 10}, ""},
		{"nothing", nil, nil, "it is empty"},
		{"empty lines", []byte("\n\n"), nil, "it is empty"},
		{"a text", []byte("hello\n"), nil, "not signed by the node's key"},
		{"half of one", one[:len(one)-9], nil, "not signed by the node's key"},
		{"one and half of one", join(one, two[:len(two)-9]), nil, "not signed by the node's key"},
		{"too long", join(one[:len(one)-1], bytes.Repeat([]byte("x"), 17<<10), []byte("\n")), nil, "longer than"},
		{"without an epoch", (&draft{number: 0, pen: p}).checkpoint(t, 0, p.signer), nil, "of another log"},
	} {
		list, err := auditlog.ReadCheckpoints(tt.text, p.vkey)
		if tt.sizes == nil {
			if _, ok := errors.AsType[*auditlog.CheckpointError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadCheckpoints(%s) = %v, want a CheckpointError with %q", tt.name, err, tt.want)
			}
			continue
		}
		var sizes []int64
		for _, c := range list {
			sizes = append(sizes, c.Size)
			if c.Epoch != 7 || c.Root != d.tree(t, c.Size).root {
				t.Errorf("ReadCheckpoints(%s) = %+v, want that of epoch 7", tt.name, c)
			}
		}
		if err != nil || len(sizes) != len(tt.sizes) || sizes[0] != tt.sizes[0] || sizes[len(sizes)-1] != tt.sizes[len(sizes)-1] {
			t.Errorf("ReadCheckpoints(%s) = %v, %v, want %v", tt.name, sizes, err, tt.sizes)
		}
	}
	hostile := newPen(t, "test/\x1b[2Jnode")
	if _, err := auditlog.ReadCheckpoints(one, hostile.vkey); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("ReadCheckpoints(key with a name for terminals) = %v, want it refused and quoted", err)
	}
}

// FuzzReadCheckpoints: only what the key signed comes out, whatever stands
// around it.
func FuzzReadCheckpoints(f *testing.F) {
	p := newPen(f, origin)
	d := begin(f, p, 1, nothing(f), 5)
	for size := range int64(6) {
		f.Add(d.checkpoint(f, size, p.signer))
		f.Add(append(d.checkpoint(f, size, p.signer, newPen(f, "w/1").signer), d.checkpoint(f, 6, p.signer)...))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := auditlog.ReadCheckpoints(text, p.vkey)
		for _, c := range list {
			if err != nil || c.Size > 6 || c.Root != d.tree(t, c.Size).root {
				t.Errorf("ReadCheckpoints(%q) = %+v, %v, which was never signed", text, c, err)
			}
		}
	})
}

func TestPositions(t *testing.T) {
	for _, tt := range []struct {
		text string
		want auditlog.Position
	}{
		{"1/0", auditlog.Position{Epoch: 1}},
		{"3/4242", auditlog.Position{Epoch: 3, Index: 4242}},
		{"1790000000/7", auditlog.Position{Epoch: 1790000000, Index: 7}},
	} {
		got, err := auditlog.ParsePosition(tt.text)
		if err != nil || got != tt.want || got.String() != tt.text {
			t.Errorf("ParsePosition(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "1", "/", "1/", "/1", "0/1", "-1/1", "1/-1", "01/1", "1/+1", "1/1/1", "1/ 1", "99999999999999999999/1"} {
		if got, err := auditlog.ParsePosition(text); err == nil || !strings.Contains(err.Error(), "hint:") {
			t.Errorf("ParsePosition(%q) = %v, %v, want an error with a hint", text, got, err)
		}
	}
}
