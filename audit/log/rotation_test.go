package log_test

import (
	"fmt"
	"strings"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// handedOver is a log whose epochs are signed by these keys, each of which was
// handed over to the next one where they differ. The last epoch is open.
func handedOver(t testing.TB, pens ...pen) []*draft {
	t.Helper()
	var list []*draft
	before := nothing(t)
	for i, p := range pens {
		d := begin(t, p, int64(i)+1, before, 10)
		switch {
		case i+1 == len(pens):
		case pens[i+1].vkey != p.vkey:
			d.rotate(t, pens[i+1])
		default:
			d.end(t)
		}
		before = d.whole(t)
		list = append(list, d)
	}
	return list
}

// TestVerifyFollowsRotations from any key of the chain, in both directions.
func TestVerifyFollowsRotations(t *testing.T) {
	a, b, c := newPen(t, origin), newPen(t, origin), newPen(t, origin)
	dir := written(t, handedOver(t, a, a, b, b, c)...)
	for i, vkey := range []string{a.vkey, b.vkey, c.vkey, a.vkey + "\n" + c.vkey + "\n", newPen(t, origin).vkey + "\n" + b.vkey} {
		r, err := verify(t, dir, vkey)
		if err != nil {
			t.Errorf("Verify(key %d) = %v, want no error", i, err)
			continue
		}
		keys, rotated := map[string]bool{}, 0
		for _, e := range r.Epochs {
			keys[e.Key] = true
			if e.Rotated != "" {
				rotated++
			}
		}
		if len(keys) != 3 || rotated != 2 {
			t.Errorf("Verify(key %d) = %+v, want three keys and two rotations", i, r.Epochs)
		}
	}
}

// TestP7ForgedRotations are those of somebody who can write the directory, and
// has a key, but not the node's.
func TestP7ForgedRotations(t *testing.T) {
	node, thief := newPen(t, origin), newPen(t, origin)
	first := func() *draft { return begin(t, node, 1, nothing(t), 10) }
	after := func(d *draft, p pen) *draft { return begin(t, p, 2, d.whole(t), 10) }
	onlyNew := first().rotate(t, thief)
	onlyNew.only = true
	onlyOld := first().rotate(t, thief)
	onlyOld.cosigned = nil
	noLeaf := first().end(t)
	noLeaf.cosigned = &thief
	named := first()
	named.add(t, boundary("key.rotated", named.whole(t), fmt.Sprintf(`,"previousKey":%q,"key":%q`, newPen(t, origin).vkey, thief.vkey)))
	named.cosigned = &thief
	named.end(t)
	returned := first().rotate(t, thief)
	earlier := begin(t, thief, 1, nothing(t), 10)
	earlier.rotate(t, node)
	earlier.only, earlier.cosigned = true, &thief
	tests := []struct {
		name       string
		drafts     []*draft
		vkey       string
		file, want string
	}{
		{"signed by the new key alone", []*draft{onlyNew, after(onlyNew, thief)}, node.vkey, "0001.db", "its checkpoints are not signed by one key"},
		{"signed by the old key alone", []*draft{onlyOld, after(onlyOld, thief)}, node.vkey, "0002.db", "the log was never handed over to that"},
		{"not on record", []*draft{noLeaf, after(noLeaf, thief)}, node.vkey, "0002.db", "not signed by the node's key"},
		{"from another key than the node's", []*draft{named, after(named, thief)}, node.vkey, "0002.db", "the log was never handed over to that"},
		{"a key from nowhere", []*draft{noLeaf, after(noLeaf, thief)}, node.vkey + "\n" + thief.vkey, "0002.db", "the log was never handed over to that"},
		{"back to the key that was given up", []*draft{returned, after(returned, node)}, node.vkey, "0002.db", "the log was never handed over to that"},
		{"an earlier epoch made up", []*draft{earlier, after(earlier, node)}, node.vkey, "0002.db", "the log was never handed over to that"},
		{"by somebody else from beginning to end", handedOver(t, thief, newPen(t, origin)), node.vkey, "", "not signed by the node's key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := verify(t, written(t, tt.drafts...), tt.vkey)
			refused(t, err, tt.file, tt.want)
		})
	}
}

// TestAKeyThatWasOnlyClaimedSignsNothing: a rotation on record that the new key
// did not take part in makes no checkpoint of that key count.
func TestAKeyThatWasOnlyClaimedSignsNothing(t *testing.T) {
	node, thief := newPen(t, origin), newPen(t, origin)
	d := begin(t, node, 1, nothing(t), 10).rotate(t, thief)
	d.cosigned = nil
	next := begin(t, node, 2, d.whole(t), 10)
	dir := written(t, d, next)
	if _, err := verify(t, dir, node.vkey, d.last(t)); err != nil {
		t.Errorf("Verify() = %v, want no error", err)
	}
	if _, err := verify(t, dir, node.vkey, next.checkpoint(t, 5, thief.signer)); err == nil || !strings.Contains(err.Error(), "not signed by the node's key") {
		t.Errorf("Verify(checkpoint by the claimed key) = %v, want it refused", err)
	}
	if _, err := verify(t, dir, thief.vkey); err == nil || !strings.Contains(err.Error(), "not signed by the node's key") {
		t.Errorf("Verify(with the claimed key) = %v, want it refused", err)
	}
}

// TestVerifyTakesCosignatures of witnesses that it does not know.
func TestVerifyTakesCosignatures(t *testing.T) {
	node, witness := newPen(t, origin), newPen(t, "witness.example/w1")
	drafts := chained(t, node, 2, 10)
	dir := written(t, drafts...)
	known := drafts[1].checkpoint(t, 7, witness.signer, node.signer)
	if r, err := verify(t, dir, node.vkey, append([]byte("\n"), known...)); err != nil || r.Known != 1 {
		t.Errorf("Verify(with a cosigned checkpoint) = %+v, %v, want it taken", r, err)
	}
	if _, err := verify(t, dir, node.vkey, drafts[1].checkpoint(t, 7, witness.signer)); err == nil {
		t.Error("Verify(with a checkpoint of a witness alone) = nil, want an error")
	}
}

func TestVerifyRefusesKeys(t *testing.T) {
	p := newPen(t, origin)
	dir := written(t, chained(t, p, 1, 3)...)
	for _, tt := range []struct{ vkey, want string }{
		{"", "none; hint: give the content of node.vkey"},
		{"a+b+c", "give the content of node.vkey"},
		{p.vkey + "\n" + newPen(t, "test/nodes/other").vkey, "give keys of one node"},
		{newPen(t, origin).vkey, "check that the key is the node's own"},
		{newPen(t, "test/nodes/other").vkey, "give the node.vkey of the node that the file is from"},
	} {
		if _, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: tt.vkey}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Verify(%.30q) = %v, want an error with %q", tt.vkey, err, tt.want)
		}
	}
}
