package provider

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// minScratch is above the size up to which grpc-go does not hand a buffer back
// (mem.IsBelowBufferPoolingThreshold, 1 KiB), and hence could not wipe it.
const minScratch = 4096

// scratch is a byte buffer that leaves no copy behind when it grows.
type scratch struct{ b []byte }

// grow makes room for n more bytes.
func (s *scratch) grow(n int) {
	if cap(s.b)-len(s.b) >= n {
		return
	}
	bigger := make([]byte, len(s.b), max(minScratch, 2*cap(s.b), len(s.b)+n))
	copy(bigger, s.b)
	s.wipe()
	s.b = bigger
}

// wipe overwrites the buffer, spare capacity included, and drops it.
func (s *scratch) wipe() {
	clear(s.b[:cap(s.b)])
	s.b = nil
}

// text appends s as it is.
func (s *scratch) text(t string) {
	s.grow(len(t))
	s.b = append(s.b, t...)
}

// quote appends p as a JSON string. Invalid UTF-8 becomes U+FFFD, as with
// encoding/json, which is not used since its buffers cannot be wiped.
func (s *scratch) quote(p []byte) {
	const hex = "0123456789abcdef"
	s.grow(6*len(p) + 2)
	s.b = append(s.b, '"')
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		switch {
		case r == '"' || r == '\\':
			s.b = append(s.b, '\\', byte(r))
		case r < ' ':
			s.b = append(s.b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		default:
			s.b = utf8.AppendRune(s.b, r)
		}
		p = p[n:]
	}
	s.b = append(s.b, '"')
}

// field appends a length-delimited protobuf field.
func (s *scratch) field(number protowire.Number, p []byte) {
	s.grow(protowire.SizeTag(number) + protowire.SizeBytes(len(p)))
	s.b = protowire.AppendTag(s.b, number, protowire.BytesType)
	s.b = protowire.AppendBytes(s.b, p)
}
