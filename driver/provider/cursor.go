package provider

import (
	"encoding/binary"
	"errors"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// errWire says that bytes are not a protobuf message. It holds no data.
var errWire = errors.New("reply is not a protobuf message")

// cursor reads protobuf from received fragments without joining them, so that
// a secret is copied once, into memory that is wiped.
type cursor struct {
	fragments [][]byte
	left      int
}

func newCursor(data mem.BufferSlice) *cursor {
	c := &cursor{left: data.Len()}
	for _, b := range data {
		c.fragments = append(c.fragments, b.ReadOnlyData())
	}
	return c
}

// head is the beginning of a field: of a length-delimited one, value is the
// length of what follows.
type head struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
}

// walk visits the fields of a message of size bytes. What visit leaves of a
// field is skipped, as protobuf asks for unknown fields; visit must not read
// beyond it.
func (c *cursor) walk(size int, visit func(head) error) error {
	end := c.left - size
	for c.left > end {
		h, err := c.head(end)
		if err != nil {
			return err
		}
		after := c.left
		if h.kind == protowire.BytesType {
			after -= int(h.value) //nolint:gosec // G115: head has compared it with what is left
		}
		if err := visit(h); err != nil {
			return err
		}
		if err := c.copyTo(nil, c.left-after); err != nil {
			return err
		}
	}
	return nil
}

// head reads a tag and the number after it. Nothing may pass end.
func (c *cursor) head(end int) (head, error) {
	tag, err := c.varint(end)
	if err != nil {
		return head{}, err
	}
	number, kind := protowire.DecodeTag(tag)
	if !number.IsValid() {
		return head{}, errWire
	}
	h := head{number: number, kind: kind}
	switch kind {
	case protowire.VarintType:
		h.value, err = c.varint(end)
	case protowire.BytesType:
		h.value, err = c.varint(end)
		if err == nil && h.value > uint64(c.left-end) { //nolint:gosec // G115: varint has not passed end
			err = errWire
		}
	case protowire.Fixed32Type:
		err = c.skip(4, end)
	case protowire.Fixed64Type:
		err = c.skip(8, end)
	default: // groups left the language before this protocol began
		err = errWire
	}
	return h, err
}

// varint reads a number of at most ten bytes.
func (c *cursor) varint(end int) (uint64, error) {
	var v uint64
	for shift := 0; shift < 70 && c.left > end; shift += 7 {
		var b [1]byte
		if err := c.copyTo(b[:], 1); err != nil {
			return 0, err
		}
		if shift == 63 && b[0] > 1 {
			return 0, errWire
		}
		v |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return v, nil
		}
	}
	return 0, errWire
}

// skip passes over n bytes, but not over end.
func (c *cursor) skip(n, end int) error {
	if c.left-n < end {
		return errWire
	}
	return c.copyTo(nil, n)
}

// copyTo takes the next n bytes, into dst unless that is nil.
func (c *cursor) copyTo(dst []byte, n int) error {
	if n < 0 || n > c.left {
		return errWire
	}
	c.left -= n
	for n > 0 {
		if len(c.fragments) == 0 {
			return errWire
		}
		part := c.fragments[0]
		if len(part) == 0 {
			c.fragments = c.fragments[1:]
			continue
		}
		part = part[:min(n, len(part))]
		if dst != nil {
			copyWords(dst, part)
			dst = dst[len(part):]
		}
		c.fragments[0] = c.fragments[0][len(part):]
		n -= len(part)
	}
	return nil
}

// copyWords copies src to the front of dst by words of eight bytes. The copy of
// the Go runtime moves up to 256 bytes through the vector registers and leaves
// them there; whatever signal comes next, a preemption for example, saves them
// to a stack that nobody wipes (measured: whole secrets of 200 bytes).
func copyWords(dst, src []byte) {
	for len(src) >= 8 {
		binary.NativeEndian.PutUint64(dst, binary.NativeEndian.Uint64(src))
		dst, src = dst[8:], src[8:]
	}
	copy(dst, src)
}

// take returns the next n bytes in memory of their own.
func (c *cursor) take(n uint64) ([]byte, error) {
	if n > uint64(c.left) { //nolint:gosec // G115: left is never negative
		return nil, errWire
	}
	p := make([]byte, n)
	return p, c.copyTo(p, len(p))
}
