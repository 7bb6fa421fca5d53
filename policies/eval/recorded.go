package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// maxLineBytes: an input has 128 KiB at most, and escapes may make it longer.
	maxLineBytes = 1 << 20
	// maxRepeated is more than a node counts in its life. Sums of larger numbers
	// would run over, and many decisions look like none.
	maxRepeated = 1 << 40
)

// Line is one recorded decision and, where it was kept, its input.
type Line struct {
	policies.Recorded
	Number int64 // in the file, from 1
	Bytes  int64 // read so far, this line included
	// Kept says that Facts holds the input, at the time of the decision.
	Kept  bool
	Facts policies.Input
}

// ErrInputDiffers says that an input is not the one that was recorded.
var ErrInputDiffers = errors.New("the input is not the one whose digest was recorded; hint: the file was changed, take it from the log again")

// Recorded calls each for every line of recorded decisions, as audit input --all
// writes them. A line that cannot be read, and an error of each, end it. Memory
// is that of one line.
func Recorded(from io.Reader, each func(Line) error) error {
	return lines(from, func(line Line) error {
		if err := line.check(); err != nil {
			return line.failed(err)
		}
		return each(line)
	})
}

// errStop ends lines where nobody wants more of them.
var errStop = errors.New("stop")

// Records are the lines that Recorded reads, as they stand: whether an input is
// the one whose digest was recorded is for whoever makes the decision again.
func Records(from io.Reader) iter.Seq2[policies.Recorded, error] {
	return func(yield func(policies.Recorded, error) bool) {
		err := lines(from, func(line Line) error {
			if !yield(line.Recorded, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(policies.Recorded{}, err)
		}
	}
}

func lines(from io.Reader, each func(Line) error) error {
	r := bufio.NewReaderSize(from, 64<<10)
	var line Line
	for {
		text, err := readLine(r)
		line.Bytes += int64(len(text))
		if text = bytes.TrimSpace(text); len(text) > 0 {
			line.Number++
			if err := line.parse(text); err != nil {
				return line.failed(err)
			}
			if err := each(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read recorded decisions after number %d: %w", line.Number, err)
		}
	}
}

func (l *Line) failed(err error) error {
	return fmt.Errorf("read recorded decision %d: %w", l.Number, err)
}

// readLine bounds what a line may cost.
func readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(text)+len(part) > maxLineBytes {
			return nil, fmt.Errorf("a line is longer than %d KiB; hint: this is no file of audit input --all", maxLineBytes>>10)
		}
		text = append(text, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}

func (l *Line) parse(text []byte) error {
	l.Recorded, l.Kept, l.Facts = policies.Recorded{}, false, policies.Input{}
	if err := policies.DecodeStrictly(text, &l.Recorded); err != nil {
		return fmt.Errorf("%w; hint: each line is one recorded decision, as audit input --all writes it", err)
	}
	if l.Repeated < 0 || l.Repeated > maxRepeated {
		return errors.New("repeated is no count of decisions; hint: the file was changed, take it from the log again")
	}
	return nil
}

// check reads the input, if it is the one that was recorded.
func (l *Line) check() error {
	if len(l.Input) == 0 {
		return nil
	}
	in, err := policies.ReadInput(l.Input, l.NowNS)
	if err != nil {
		return err
	}
	canonical, err := in.Canonical()
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(canonical); hex.EncodeToString(sum[:]) != l.InputSHA256 {
		return ErrInputDiffers
	}
	l.Kept, l.Facts = true, in
	return nil
}
