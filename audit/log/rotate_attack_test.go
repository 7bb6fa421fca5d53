package log_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// countersigned adds a signature to the final checkpoint of a closed epoch, as
// whoever can write files can, and puts this into the leaf before the last one.
func countersigned(t *testing.T, path, vkey string, by note.Signer, leaf string) {
	t.Helper()
	inFile(t, path, func(tx *bolt.Tx) error {
		c := bucket(tx, "checkpoints")
		at, text := c.Cursor().Last()
		n, err := note.Open(text, note.VerifierList(verifier(t, vkey)))
		if err != nil {
			return err
		}
		signed, err := note.Sign(n, by)
		if err != nil {
			return err
		}
		events := bucket(tx, "events")
		cursor := events.Cursor()
		cursor.Last()
		before, _ := cursor.Prev()
		if leaf != "" {
			err = events.Put(before, []byte(leaf))
		}
		return errors.Join(err, c.Put(at, signed))
	})
}

func inFile(t *testing.T, path string, f func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestP7NoPlantedKeyTakesOver: somebody who can write files, and has no key,
// makes a stopped log look as if a rotation to a key of theirs was interrupted.
func TestP7NoPlantedKeyTakesOver(t *testing.T) {
	skey, thief, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	for _, planted := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaf %t", planted), func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			fill(t, l, 0, 10)
			if err := l.RollOver(); err != nil {
				t.Fatal(err)
			}
			closeLog(t, l)
			node := strings.TrimSpace(vkey(t, c.Dir))
			key := content(t, filepath.Join(c.Dir, auditlog.KeyFileName))
			leaf := ""
			if planted {
				leaf = boundary("key.rotated", tree{number: 1, size: 10}, fmt.Sprintf(`,"previousKey":%q,"key":%q`, node, thief))
			}
			countersigned(t, epochFile(c, 1), node, signer, leaf)
			if err := errors.Join(os.Remove(epochFile(c, 2)),
				os.WriteFile(filepath.Join(c.Dir, auditlog.KeyFileName+".new"), []byte(skey+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
			if l, err := auditlog.Open(c); err == nil {
				closeLog(t, l)
			}
			if now := content(t, filepath.Join(c.Dir, auditlog.KeyFileName)); string(now) != string(key) {
				t.Error("Open() has put the planted key in the place of the node's")
			}
		})
	}
}

// TestP7OpenRefusesTheKeyOfBeforeARotation, which others may have by now: what
// it signs would never verify.
func TestP7OpenRefusesTheKeyOfBeforeARotation(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 10)
	path := filepath.Join(c.Dir, auditlog.KeyFileName)
	old := content(t, path)
	if err := l.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if err := errors.Join(os.Remove(epochFile(c, 2)), os.WriteFile(path, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := auditlog.Open(c)
	if problem, ok := errors.AsType[*auditlog.DirectoryError](err); !ok || !strings.Contains(problem.Problem, "handed over") {
		t.Errorf("Open() = %v, %v, want a DirectoryError about the key", l, err)
	}
}
