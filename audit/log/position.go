package log

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is the place of an event: an epoch, and the index in it.
type Position struct {
	Epoch int64 `json:"epoch"`
	Index int64 `json:"index"`
}

// String is EPOCH/INDEX, which ParsePosition reads.
func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Epoch, p.Index) }

// ParsePosition reads EPOCH/INDEX.
func ParsePosition(text string) (Position, error) {
	epoch, index, found := strings.Cut(text, "/")
	e, okEpoch := decimal(epoch)
	i, okIndex := decimal(index)
	if !found || !okEpoch || !okIndex || e == 0 {
		return Position{}, fmt.Errorf("%q is not a position; hint: write EPOCH/INDEX, as in 3/4242", text)
	}
	return Position{e, i}, nil
}

// decimal reads a number in the one form that we write.
func decimal(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
}
