package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies"
)

// Kept are the inputs in a store, of the decisions in a log.
type Kept struct {
	// Leaves gives every event of the log in order.
	Leaves func(f func(at Position, leaf []byte) error) error
	Store  *inputs.Store // absent: nothing is kept
}

// Recorded gives f the decisions of the log, oldest first, each with its input
// where that is kept.
func (k Kept) Recorded(ctx context.Context, f func(policies.Recorded) error) error {
	leaves := func(each func(epoch, index int64, leaf []byte) error) error {
		return k.Leaves(func(at Position, leaf []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return each(at.Epoch, at.Index, leaf)
		})
	}
	for r, err := range inputs.Recorded(leaves, k.Store) {
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// Input returns an input by the SHA-256 of its canonical text, or ErrNotKept.
func (k Kept) Input(sha256 string) ([]byte, error) {
	if k.Store == nil {
		return nil, ErrNotKept
	}
	text, err := k.Store.Input(sha256)
	return text, notKept(err)
}

// Bundle returns a bundle by its digest as tar.gz, or ErrNotKept.
func (k Kept) Bundle(digest string) ([]byte, error) {
	if k.Store == nil {
		return nil, ErrNotKept
	}
	archive, err := k.Store.Bundle(digest)
	return archive, notKept(err)
}

func notKept(err error) error {
	if errors.Is(err, inputs.ErrGone) {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return err
}
