package log

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// nextKey is a key that is about to replace the node's.
type nextKey struct {
	signer       note.Signer
	verifier     note.Verifier
	before, vkey string // the verifier keys, old and new
}

// RotateKey replaces the node's key and ends the epoch with it: the last leaves
// name both keys, and both sign the final checkpoint, so that whoever trusts one
// can trust the other. The old private key is gone after it. Once the switch has
// begun, the end of ctx does not interrupt it.
func (l *Log) RotateKey(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.commands <- func() { done <- l.rotate() }:
	case <-l.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-l.done:
		select {
		case err := <-done:
			return err
		default:
			return ErrClosed
		}
	}
}

func (l *Log) rotate() error {
	k, err := l.prepareKey()
	if err == nil {
		err = l.rollOver(k)
	}
	if err == nil {
		l.c.Logger.Info("key of the audit log replaced", slog.String(keyFile, VKeyFileName))
		return nil
	}
	// Once the epoch is closed, the next start needs the new key.
	if !errors.Is(err, ErrBroken) {
		err = errors.Join(err, l.discard(KeyFileName+unfinished), l.discard(VKeyFileName+unfinished))
	}
	return fmt.Errorf("replace node key: %w", err)
}

// prepareKey has the new key on the disk before anything depends on it.
func (l *Log) prepareKey() (*nextKey, error) {
	before, err := readPrivate(l.dir, KeyFileName)
	if err != nil {
		return nil, err
	}
	skey, _, err := note.GenerateKey(rand.Reader, l.c.Origin)
	if err != nil {
		return nil, err
	}
	k, err := newNextKey(before, skey, l.c.Origin)
	if err != nil {
		return nil, err
	}
	return k, errors.Join(writeUnfinished(l.dir, KeyFileName, skey+"\n", fileMode), writeUnfinished(l.dir, VKeyFileName, k.vkey+"\n", publicMode))
}

func newNextKey(before, skey, origin string) (k *nextKey, err error) {
	k = &nextKey{}
	if k.signer, err = note.NewSigner(skey); err != nil {
		return nil, err
	}
	if k.before, err = publicKey(before, origin); err != nil {
		return nil, err
	}
	if k.vkey, err = publicKey(skey, origin); err != nil {
		return nil, err
	}
	k.verifier, err = note.NewVerifier(k.vkey)
	return k, err
}

// install makes it the node's key. The public one comes first: without it, a
// start in between would take the old one for another node's.
func (k *nextKey) install(dir *os.Root, at func(step string)) error {
	err := dir.Rename(VKeyFileName+unfinished, VKeyFileName)
	if errors.Is(err, fs.ErrNotExist) {
		err = publish(dir, k.vkey)
	}
	if err != nil {
		return err
	}
	at("vkey")
	if err := moveIntoPlace(dir, KeyFileName); err != nil {
		return err
	}
	at("key")
	return nil
}

// finishRotation looks for a key that a crash kept from being installed. It was
// to be only if the last epoch has ended and both keys vouch for its end.
func (l *Log) finishRotation(last string) error {
	skey, err := readPrivate(l.dir, KeyFileName+unfinished)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && last != "" {
		if k, ok := l.interrupted(skey, last); ok {
			return k.install(l.dir, l.at)
		}
	}
	return errors.Join(l.discard(KeyFileName+unfinished), l.discard(VKeyFileName+unfinished))
}

func (l *Log) interrupted(skey, last string) (k *nextKey, ok bool) {
	before, err := readPrivate(l.dir, KeyFileName)
	if err != nil {
		return nil, false
	}
	if k, err = newNextKey(before, skey, l.c.Origin); err != nil {
		return nil, false
	}
	c, err := openClosed(l.dir, last, k.verifier)
	if err != nil {
		return nil, false
	}
	defer func() { _ = c.close() }() // it was only read
	return k, k.endsEpoch(c) == nil
}

// endsEpoch reads an epoch whole: whoever can write files can add a signature of
// their own to any checkpoint, and a leaf that nobody signed. Only a leaf that
// the old key has signed names the key that follows it.
func (k *nextKey) endsEpoch(c *closedFile) error {
	old, err := note.NewVerifier(k.before)
	if err != nil {
		return err
	}
	info, err := c.f.Stat()
	if err != nil {
		return err
	}
	b := &boundaries{ended: -1}
	x := &examination{ctx: context.Background(), node: c.x.node, want: c.x.number, keys: note.VerifierList(old, k.verifier)}
	x.each = func(index int64, leaf []byte) error {
		kind, said, err := parseBoundary(leaf)
		b.see(index, kind, said)
		return err
	}
	if err := x.run(c.f, info.Size()); err != nil {
		return err
	}
	if err := b.check(x); err != nil {
		return err
	}
	signed := slices.Contains(x.last.signers, idOf(old)) && slices.Contains(x.last.signers, idOf(k.verifier))
	if !x.closed || !signed || b.rotated.PreviousKey != k.before || b.rotated.Key != k.vkey {
		return errors.New("it was not handed over to this key")
	}
	return nil
}
