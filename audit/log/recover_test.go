package log_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// threeEpochs is a stopped log of two closed epochs and an open one.
func threeEpochs(t *testing.T) auditlog.Config {
	t.Helper()
	c := config(t)
	l := open(t, c)
	rolled(t, l, 0, 10)
	fill(t, l, 20, 10)
	closeLog(t, l)
	return c
}

func epochFile(c auditlog.Config, n int64) string { return filepath.Join(c.Dir, auditlog.EpochFile(n)) }

// TestP7OpenSaysWhatIsMissing: an epoch that was removed is on record, wherever
// it was. The oldest may be gone by retention.
func TestP7OpenSaysWhatIsMissing(t *testing.T) {
	now := leafTime().Unix()
	tests := []struct {
		name   string
		remove []int64
		want   auditlog.Opening
		active int64
		first  string // of the active epoch
	}{
		{"nothing", nil, auditlog.Opening{}, 3, `"epoch":2,`},
		{"the oldest", []int64{1}, auditlog.Opening{}, 3, `"epoch":2,`},
		{"one in the middle", []int64{2}, auditlog.Opening{Missing: []int64{2}}, 3, `"epoch":2,`},
		{"the last", []int64{3}, auditlog.Opening{Created: true, Lost: true}, now, `"epoch":2,`},
		{"the last two", []int64{2, 3}, auditlog.Opening{Created: true, Lost: true}, now, `"epoch":1,`},
		{"all", []int64{1, 2, 3}, auditlog.Opening{Created: true, Lost: true}, now, `"epoch":0,"size":0,`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := threeEpochs(t)
			for _, n := range tt.remove {
				if err := os.Remove(epochFile(c, n)); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, c)
			if diff := cmp.Diff(tt.want, l.Opening()); diff != "" {
				t.Errorf("Opening() mismatch (-want +got):\n%s", diff)
			}
			list := epochs(t, l)
			last := list[len(list)-1]
			first, err := l.Read(auditlog.Position{Epoch: last.Number}, 1)
			if err != nil || len(first) != 1 || last.Number != tt.active || !strings.Contains(string(first[0].Data), tt.first) || strings.Contains(string(first[0].Data), `"lost":true`) != tt.want.Lost {
				t.Errorf("epoch %d begins with %+v, %v, want epoch %d and %s", last.Number, first, err, tt.active, tt.first)
			}
			rolled(t, l, 100, 5)
			closeLog(t, l)
			if o := open(t, c).Opening(); o.Lost || !cmp.Equal(o.Missing, tt.want.Missing) {
				t.Errorf("Opening() once more = %+v, want a loss to be told once", o)
			}
		})
	}
}

// TestOpenRefusesWhatIsNotItsLog names the file and leaves all as it is.
func TestOpenRefusesWhatIsNotItsLog(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(c auditlog.Config) error
		want  string
	}{
		{"a log of before", func(c auditlog.Config) error {
			return os.WriteFile(filepath.Join(c.Dir, "audit.db"), []byte("x"), 0o600)
		}, "move it away, with node.key"},
		{"a name that is none", func(c auditlog.Config) error {
			return os.WriteFile(filepath.Join(c.Dir, "epoch-4.db"), nil, 0o600)
		}, "epoch-4.db"},
		{"an empty epoch", func(c auditlog.Config) error { return os.WriteFile(epochFile(c, 4), nil, 0o600) }, "epoch-0000000004.db"},
		{"a directory", func(c auditlog.Config) error { return os.Mkdir(epochFile(c, 4), 0o700) }, "epoch-0000000004.db"},
		{"an epoch twice", func(c auditlog.Config) error {
			text, err := os.ReadFile(epochFile(c, 2))
			return errors.Join(err, os.WriteFile(epochFile(c, 4), text, 0o600))
		}, "is epoch 2 by its content"},
		{"another epoch's name", func(c auditlog.Config) error {
			return errors.Join(os.Rename(epochFile(c, 1), epochFile(c, 9)), os.Rename(epochFile(c, 2), epochFile(c, 1)))
		}, "by its content"},
		{"open to others", func(c auditlog.Config) error { return os.Chmod(epochFile(c, 1), 0o644) }, "chmod 0600"},
		{"a link", func(c auditlog.Config) error {
			return errors.Join(os.Rename(epochFile(c, 1), filepath.Join(c.Dir, "real.db")), os.Symlink("real.db", epochFile(c, 1)))
		}, "is a link"},
		{"cut", func(c auditlog.Config) error { return os.Truncate(epochFile(c, 1), 8<<10) }, "altered or damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := threeEpochs(t)
			if err := tt.spoil(c); err != nil {
				t.Fatal(err)
			}
			if l, err := auditlog.Open(c); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "; hint: ") {
				t.Errorf("Open() = %v, %v, want an error with %q and a hint", l, err, tt.want)
			}
		})
	}
}

// TestP7OpenRefusesAlteredEnds: what ties the epochs together is checked at
// every start, and what is refused is not written to.
func TestP7OpenRefusesAlteredEnds(t *testing.T) {
	tests := []struct {
		name   string
		epoch  int64
		tamper func(tx *bolt.Tx) error
		want   string
	}{
		{"reopened", 1, func(tx *bolt.Tx) error { return bucket(tx, "meta").Delete([]byte("closed")) }, "has not ended"},
		{"shortened", 1, func(tx *bolt.Tx) error { return shorten(tx, 8) }, "has no entry 8"},
		{"no final checkpoint", 2, func(tx *bolt.Tx) error { return bucket(tx, "checkpoints").Delete(key8(12)) }, "has no entry 12"},
		{"another's checkpoint", 1, func(tx *bolt.Tx) error {
			c := bucket(tx, "checkpoints")
			_, first := c.Cursor().First()
			return c.Put(key8(12), first)
		}, "not signed by the node's key"},
		{"another begin", 2, func(tx *bolt.Tx) error {
			return bucket(tx, "events").Put(key8(0), []byte(`{"type":"log.opened","log":{"epoch":1,"size":12,"root":"00"}}`))
		}, "does not end with what the epoch after it says"},
		{"no begin", 2, func(tx *bolt.Tx) error { return bucket(tx, "events").Put(key8(0), []byte(`{}`)) }, "is not that of an epoch's begin"},
		{"no end", 2, func(tx *bolt.Tx) error { return bucket(tx, "events").Put(key8(11), []byte(`{}`)) }, "is not that of an epoch's end"},
		{"the active one ended", 3, func(tx *bolt.Tx) error { return bucket(tx, "meta").Put([]byte("closed"), []byte{1}) }, "has no entry"},
		{"a begin that never was", 3, func(tx *bolt.Tx) error {
			return bucket(tx, "events").Put(key8(0), []byte(`{"type":"log.opened","log":{"epoch":1,"size":12,"root":"00"}}`))
		}, "altered or damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := threeEpochs(t)
			edit(tt.tamper)(t, epochFile(c, tt.epoch))
			before := content(t, epochFile(c, tt.epoch))
			l, err := auditlog.Open(c)
			if err == nil {
				closeLog(t, l)
			}
			if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok || tt.name != "the active one ended" && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want a TamperedError with %q", err, tt.want)
			}
			if string(before) != string(content(t, epochFile(c, tt.epoch))) {
				t.Error("Open() changed the file that it refused")
			}
		})
	}
}

// TestP7AForgedNextEpochIsRefused: whoever removes the last epoch and puts
// something in the place of the one that waits for its name.
func TestP7AForgedNextEpochIsRefused(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, c auditlog.Config) []byte{
		"garbage":        func(*testing.T, auditlog.Config) []byte { return []byte("half a file") },
		"an older epoch": func(t *testing.T, c auditlog.Config) []byte { return content(t, epochFile(c, 2)) },
		"another log's": func(t *testing.T, _ auditlog.Config) []byte {
			other := threeEpochs(t)
			return content(t, epochFile(other, 3))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := threeEpochs(t)
			text := forge(t, c)
			if err := errors.Join(os.Remove(epochFile(c, 3)), os.WriteFile(epochFile(c, 3)+".new", text, 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := auditlog.Open(c)
			if found, ok := errors.AsType[*auditlog.TamperedError](err); !ok || !strings.Contains(found.File, ".new") {
				t.Errorf("Open() = %v, want a TamperedError about the file", err)
			}
		})
	}
}
