package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/policies"
)

// sha is the SHA-256 of something.
const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

type event struct {
	At   admin.Position
	Leaf string
}

func leaf(n int) string { return fmt.Sprintf(`{"n":%d, "s":"<&>"}`, n) }

func leaves(from, to int) []string {
	var list []string
	for n := from; n < to; n++ {
		list = append(list, leaf(n))
	}
	return list
}

// collect gathers events, and returns errStop with the last of them.
func collect(into *[]event, most int) func(admin.Position, []byte) error {
	return func(at admin.Position, l []byte) error {
		*into = append(*into, event{at, string(l)})
		if len(*into) == most {
			return errStop
		}
		return nil
	}
}

var errStop = errors.New("enough")

func at(epoch, index int64) admin.Position { return admin.Position{Epoch: epoch, Index: index} }

func TestReadGivesTheEventsThatThereAre(t *testing.T) {
	log := newMemoryLog(leaves(0, 3), leaves(3, 5))
	c := admin.Dial(serve(t, admin.Config{Log: log}).path, nil)
	all := []event{{at(1, 0), leaf(0)}, {at(1, 1), leaf(1)}, {at(1, 2), leaf(2)}, {at(2, 0), leaf(3)}, {at(2, 1), leaf(4)}}
	tests := map[string]struct {
		from  admin.Position
		count int64
		want  []event
	}{
		"all":                 {admin.Position{}, 1000, all},
		"exactly all":         {admin.Position{}, 5, all},
		"none":                {admin.Position{}, 0, nil},
		"the first two":       {admin.Position{}, 2, all[:2]},
		"within an epoch":     {at(1, 1), 1, all[1:2]},
		"across":              {at(1, 2), 2, all[2:4]},
		"the last":            {at(2, 1), 9, all[4:]},
		"after the last":      {at(2, 2), 9, nil},
		"of a later epoch":    {at(3, 0), 9, nil},
		"the end of an epoch": {at(1, 3), 1, all[3:4]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []event
			if err := c.Read(t.Context(), tt.from, tt.count, collect(&got, 0)); err != nil {
				t.Fatalf("Read(%v, %d) = %v, want no error", tt.from, tt.count, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Read(%v, %d) (-want +got):\n%s", tt.from, tt.count, diff)
			}
		})
	}
}

func TestFollowGoesOnAcrossEpochs(t *testing.T) {
	log := newMemoryLog(leaves(0, 2))
	c := admin.Dial(serve(t, admin.Config{Log: log}).path, nil)
	var got []event
	err := c.Follow(t.Context(), at(1, 1), func(p admin.Position, l []byte) error {
		switch len(got) {
		case 0: // only what is there shows that we are served: now comes the next epoch
			log.append(2, leaf(2))
		case 1:
			log.append(2, leaf(3))
		}
		return collect(&got, 3)(p, l)
	})
	if !errors.Is(err, errStop) {
		t.Fatalf("Follow() = %v, want the callback's error", err)
	}
	if diff := cmp.Diff([]event{{at(1, 1), leaf(1)}, {at(2, 0), leaf(2)}, {at(2, 1), leaf(3)}}, got); diff != "" {
		t.Errorf("Follow() (-want +got):\n%s", diff)
	}
}

func TestFollowSaysThatItsEpochIsGone(t *testing.T) {
	log := newMemoryLog(leaves(0, 2), leaves(2, 4))
	c := admin.Dial(serve(t, admin.Config{Log: log}).path, nil)
	log.remove(1)
	if err := c.Follow(t.Context(), at(1, 0), collect(new([]event), 0)); !errors.Is(err, admin.ErrGone) {
		t.Errorf("Follow(deleted epoch) = %v, want ErrGone", err)
	}
	var got []event
	err := c.Follow(t.Context(), at(2, 0), func(p admin.Position, l []byte) error {
		if len(got) == 1 {
			log.remove(2) // while it is read
		}
		return collect(&got, 0)(p, l)
	})
	if !errors.Is(err, admin.ErrGone) || len(got) != 2 {
		t.Errorf("Follow() = %v after %d events, want ErrGone after 2", err, len(got))
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	log := newMemoryLog(leaves(0, 1))
	s := serve(t, admin.Config{Log: log})
	ctx, cancel := context.WithCancel(t.Context())
	err := admin.Dial(s.path, nil).Follow(ctx, admin.Position{}, func(admin.Position, []byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Follow() = %v, want %v", err, context.Canceled)
	}
}

func TestServeEndsWithItsContextAlthoughSomebodyFollows(t *testing.T) {
	log := newMemoryLog(leaves(0, 1))
	s := serve(t, admin.Config{Log: log})
	err := admin.Dial(s.path, nil).Follow(t.Context(), admin.Position{}, func(admin.Position, []byte) error {
		if err := s.stop(); err != nil {
			t.Errorf("Serve() = %v, want no error", err)
		}
		return nil
	})
	if !errors.Is(err, admin.ErrBrokenOff) {
		t.Errorf("Follow() = %v, want ErrBrokenOff: this is no end of the log", err)
	}
}

func TestAnswers(t *testing.T) {
	log := newMemoryLog(leaves(0, 3))
	inputs := &memoryInputs{
		recorded: []policies.Recorded{{EventID: "a", Input: []byte(`{"x":"<>"}`)}, {EventID: "b"}},
		inputs:   map[string]string{sha: `{"contract":"<x>"}`}, bundles: map[string]string{"sha256:" + sha: "\x1f\x8b"},
	}
	c := admin.Dial(serve(t, admin.Config{Log: log, Inputs: inputs}).path, nil)
	ctx := t.Context()
	epochs, err := c.Epochs(ctx)
	if want := []admin.Epoch{{Number: 1, Origin: "test/nodes/n/1", Size: 3, Root: strings.Repeat("0", 64), Bytes: 4096}}; err != nil || !cmp.Equal(epochs, want) {
		t.Errorf("Epochs() = %v, %v, want %v", epochs, err, want)
	}
	if text, err := c.Checkpoint(ctx); err != nil || string(text) != "origin\n1\nroot\n" {
		t.Errorf("Checkpoint() = %q, %v, want what the log signed", text, err)
	}
	if key, err := c.RotateKey(ctx); err != nil || key.VerifierKey != "test+1234+key" || log.rotated != 1 {
		t.Errorf("RotateKey() = %q, %v, and it was done %d times; want the new key, and once", key, err, log.rotated)
	}
	if text, err := c.Input(ctx, sha); err != nil || string(text) != `{"contract":"<x>"}` {
		t.Errorf("Input() = %q, %v, want the kept bytes", text, err)
	}
	if text, err := c.Bundle(ctx, "sha256:"+sha); err != nil || string(text) != "\x1f\x8b" {
		t.Errorf("Bundle() = %q, %v, want the kept bytes", text, err)
	}
	other := strings.Repeat("f", 64)
	if _, err := c.Input(ctx, other); !errors.Is(err, admin.ErrNotKept) {
		t.Errorf("Input(another) = %v, want ErrNotKept", err)
	}
	if _, err := c.Bundle(ctx, "sha256:"+other); !errors.Is(err, admin.ErrNotKept) {
		t.Errorf("Bundle(another) = %v, want ErrNotKept", err)
	}
	var got []policies.Recorded
	if err := c.Recorded(ctx, func(r policies.Recorded) error { got = append(got, r); return nil }); err != nil {
		t.Fatalf("Recorded() = %v, want no error", err)
	}
	if diff := cmp.Diff(inputs.recorded, got); diff != "" {
		t.Errorf("Recorded() (-want +got):\n%s", diff)
	}
}

func TestWithoutInputsNothingIsKept(t *testing.T) {
	c := admin.Dial(serve(t, admin.Config{Log: newMemoryLog()}).path, nil)
	for what, err := range map[string]error{
		"Input": second(c.Input(t.Context(), sha)), "Bundle": second(c.Bundle(t.Context(), "sha256:"+sha)),
		"Recorded": c.Recorded(t.Context(), func(policies.Recorded) error { return nil }),
	} {
		if !errors.Is(err, admin.ErrNotKept) {
			t.Errorf("%s() = %v, want ErrNotKept", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestALogThatFailsIsSaidInItsWords(t *testing.T) {
	log := newMemoryLog(leaves(0, 1))
	log.err = errors.New("audit log was \x1b[31maltered; hint: keep it as evidence")
	c := admin.Dial(serve(t, admin.Config{Log: log, Inputs: &memoryInputs{err: log.err}}).path, nil)
	ctx := t.Context()
	for what, err := range map[string]error{
		"Epochs": second(c.Epochs(ctx)), "Checkpoint": second(c.Checkpoint(ctx)), "RotateKey": second(c.RotateKey(ctx)),
		"Read": c.Read(ctx, at(1, 0), 1, collect(new([]event), 0)), "Snapshot": c.Snapshot(ctx, t.TempDir(), 1<<20),
		"Recorded": c.Recorded(ctx, func(policies.Recorded) error { return nil }),
	} {
		if want := "the plugin refused: audit log was ?[31maltered; hint: keep it as evidence"; err == nil || err.Error() != want {
			t.Errorf("%s() = %v, want %q", what, err, want)
		}
	}
}

func TestAStreamThatFailsIsNotTakenForWhole(t *testing.T) {
	inputs := &memoryInputs{recorded: []policies.Recorded{{EventID: "a"}}, err: errors.New("disk")}
	log := newMemoryLog()
	log.snapshot = func(w io.Writer) error {
		var b bytes.Buffer
		if err := archive(&b, "node.vkey", "key", "epoch-0000000001.db", strings.Repeat("x", 512)); err != nil {
			return err
		}
		_, err := w.Write(b.Bytes()[:1024]) // ends between two files, where a tar reader sees an end
		return errors.Join(err, errors.New("disk"))
	}
	c := admin.Dial(serve(t, admin.Config{Log: log, Inputs: inputs}).path, nil)
	if err := c.Recorded(t.Context(), func(policies.Recorded) error { return nil }); !errors.Is(err, admin.ErrBrokenOff) {
		t.Errorf("Recorded() = %v, want ErrBrokenOff", err)
	}
	if err := c.Snapshot(t.Context(), t.TempDir(), 1<<20); !errors.Is(err, admin.ErrBrokenOff) {
		t.Errorf("Snapshot() = %v, want ErrBrokenOff", err)
	}
}

func TestALeafOfTwoLinesIsNotSent(t *testing.T) {
	c := admin.Dial(serve(t, admin.Config{Log: newMemoryLog([]string{leaf(0), "{\n}"})}).path, nil)
	var got []event
	if err := c.Read(t.Context(), admin.Position{}, 9, collect(&got, 0)); !errors.Is(err, admin.ErrBrokenOff) || len(got) != 1 {
		t.Errorf("Read() = %v after %d events, want ErrBrokenOff after 1", err, len(got))
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent.sock")
	if _, err := admin.Dial(absent, nil).Epochs(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "; hint: it serves the socket while it runs") {
		t.Errorf("Epochs() without a socket = %v, want os.ErrNotExist and a hint", err)
	}
	s := serve(t, admin.Config{Log: newMemoryLog(), Peer: func(net.Conn) error { return errors.New("user 7 is at the other end") }})
	if _, err := admin.Dial(s.path, nil).Epochs(t.Context()); err == nil || !strings.Contains(err.Error(), "; hint: it hangs up on other users") {
		t.Errorf("Epochs() as a refused peer = %v, want a hint that it hangs up", err)
	}
	distrust := errors.New("user 7 is at the other end")
	good := serve(t, admin.Config{Log: newMemoryLog()})
	if _, err := admin.Dial(good.path, func(net.Conn) error { return distrust }).Epochs(t.Context()); !errors.Is(err, distrust) {
		t.Errorf("Epochs() of a distrusted server = %v, want %v", err, distrust)
	}
}

func TestConfigIsChecked(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s")) //nolint:noctx // closed by Serve
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := admin.Serve(ctx, l, admin.Config{Log: newMemoryLog()}); err == nil || !strings.Contains(err.Error(), "Peer is missing") {
		t.Errorf("Serve(no Peer) = %v, want that Peer is missing", err)
	}
}
