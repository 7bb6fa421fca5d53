package inputs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// A file is its first line and then records, each a head and what it holds:
//
//	kind 1, zero 3, length 4 (big endian), name 32, SHA-256 of what it holds 32
const (
	firstLine = "portcullis-inputs-v1\n"
	headSize  = 72

	// maxBundleBytes is far beyond a bundle that the plugin would load.
	maxBundleBytes = 32 << 20
)

// kind is what a record holds.
type kind byte

const (
	kindInput  kind = 'i'
	kindBundle kind = 'b'
)

func (k kind) longest() uint32 {
	if k == kindInput {
		return policies.MaxInputBytes
	}
	return maxBundleBytes
}

// name is what a thing is kept under.
type name struct {
	kind   kind
	digest [sha256.Size]byte
}

// The forms of names outside: an input's is 64 hexadecimal digits, a bundle's
// has sha256: before them.
const bundlePrefix = "sha256:"

func inputName(sha256 string) (name, error) { return nameOf(kindInput, sha256) }

func bundleName(digest string) (name, error) {
	text, ok := strings.CutPrefix(digest, bundlePrefix)
	if !ok {
		return name{}, fmt.Errorf("bundle digest %q does not begin with %s", digest, bundlePrefix)
	}
	return nameOf(kindBundle, text)
}

func nameOf(k kind, text string) (name, error) {
	n := name{kind: k}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(n.digest) {
		return name{}, fmt.Errorf("%q is not a SHA-256 in hexadecimal digits", text)
	}
	copy(n.digest[:], raw)
	return n, nil
}

func (n name) String() string {
	text := hex.EncodeToString(n.digest[:])
	if n.kind == kindBundle {
		return bundlePrefix + text
	}
	return text
}

// head is the beginning of a record.
type head struct {
	name   name
	length uint32
	sum    [sha256.Size]byte
}

func (h head) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, byte(h.name.kind), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.length)
	b = append(b, h.name.digest[:]...)
	return append(b, h.sum[:]...)
}

var errNoRecord = errors.New("it holds something that is no record")

func decodeHead(b []byte) (head, error) {
	var h head
	h.name.kind = kind(b[0])
	if h.name.kind != kindInput && h.name.kind != kindBundle || b[1]|b[2]|b[3] != 0 {
		return head{}, errNoRecord
	}
	h.length = binary.BigEndian.Uint32(b[4:])
	copy(h.name.digest[:], b[8:])
	copy(h.sum[:], b[40:])
	if h.length > h.name.kind.longest() || h.name.kind == kindInput && h.name.digest != h.sum {
		return head{}, errNoRecord
	}
	return h, nil
}

// heads gives each record of a file with the place of what it holds. A record
// whose end is missing is where a crash came: what is before it counts.
func heads(r io.ReaderAt, size int64, each func(head, int64)) error {
	first := make([]byte, len(firstLine))
	if n, err := r.ReadAt(first, 0); n < len(first) {
		if size < int64(len(first)) && bytes.HasPrefix([]byte(firstLine), first[:n]) {
			return nil
		}
		return err
	}
	if string(first) != firstLine {
		return errors.New("it is not a file of kept inputs")
	}
	b := make([]byte, headSize)
	for at := int64(len(firstLine)); at+headSize <= size; {
		if _, err := r.ReadAt(b, at); err != nil {
			return err
		}
		h, err := decodeHead(b)
		if err != nil {
			return err
		}
		at += headSize
		if at+int64(h.length) > size {
			return nil
		}
		each(h, at)
		at += int64(h.length)
	}
	return nil
}
