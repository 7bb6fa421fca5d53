package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/portcullis-csi/portcullis/policies"
)

// maxLineBytes: an input has 128 KiB at most, and escapes may make it longer.
const maxLineBytes = 1 << 20

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
	r := bufio.NewReaderSize(from, 64<<10)
	var line Line
	for {
		text, err := readLine(r)
		line.Bytes += int64(len(text))
		if text = bytes.TrimSpace(text); len(text) > 0 {
			line.Number++
			if err := parse(text, &line); err != nil {
				return fmt.Errorf("read recorded decision %d: %w", line.Number, err)
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

func parse(text []byte, line *Line) error {
	line.Recorded, line.Kept, line.Facts = policies.Recorded{}, false, policies.Input{}
	if err := policies.DecodeStrictly(text, &line.Recorded); err != nil {
		return fmt.Errorf("%w; hint: each line is one recorded decision, as audit input --all writes it", err)
	}
	if len(line.Input) == 0 {
		return nil
	}
	in, err := policies.ReadInput(line.Input, line.NowNS)
	if err != nil {
		return err
	}
	canonical, err := in.Canonical()
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(canonical); hex.EncodeToString(sum[:]) != line.InputSHA256 {
		return ErrInputDiffers
	}
	line.Kept, line.Facts = true, in
	return nil
}
