package provider

import (
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/portcullis-csi/portcullis/hardening"
)

// Field numbers of MountResponse, File and Error in provider/v1alpha1.
const (
	replyVersions protowire.Number = 1
	replyError    protowire.Number = 2
	replyFiles    protowire.Number = 3
	filePath      protowire.Number = 1
	fileMode      protowire.Number = 2
	fileContents  protowire.Number = 3
	errorCode     protowire.Number = 1
)

// Bounds of a reply, whatever its size.
const (
	maxFiles    = 64   // as many as a class may request
	maxVersions = 256  // some providers report several per object
	maxText     = 1024 // bytes of an object id or version; gcp uses resource paths
	maxPath     = 4096
	maxMode     = 0o7777
)

// fault is what is wrong with a reply, in our words.
type fault struct {
	reason Reason
	detail string
}

// Error makes fault pass through walk; it never leaves the package.
func (f *fault) Error() string { return f.detail }

func invalid(detail string) error { return &fault{ReplyInvalid, detail} }

// replyFile is one file of a reply.
type replyFile struct {
	path     string
	mode     uint64
	contents *hardening.Plaintext
	has      uint // bit set of the fields that were seen
}

// reply is a decoded MountResponse.
type reply struct {
	decoded   bool
	errorCode bool // the provider reports an error; the code itself stays behind
	versions  []ObjectVersion
	files     []replyFile
	err       error // what decoding found
}

// decode reads a message. It copies contents once and keeps no reference to
// data.
func (r *reply) decode(data mem.BufferSlice) {
	if r.decoded {
		// The method is unary; a second message is none.
		r.wipe()
		r.err = invalid("more than one message")
		return
	}
	r.decoded = true
	c := newCursor(data)
	r.err = c.walk(c.left, func(h head) error {
		if h.kind != protowire.BytesType {
			return wireUnless(h.number > replyFiles)
		}
		size := int(h.value) //nolint:gosec // G115: the cursor has compared it with what is left
		switch h.number {
		case replyVersions:
			return r.decodeVersion(c, size)
		case replyError:
			return r.decodeError(c, size)
		case replyFiles:
			return r.decodeFile(c, size)
		}
		return nil
	})
}

// wireUnless returns errWire for a known field of the wrong type.
func wireUnless(unknown bool) error {
	if unknown {
		return nil
	}
	return errWire
}

func (r *reply) decodeVersion(c *cursor, size int) error {
	if len(r.versions) == maxVersions {
		return invalid("more than 256 object versions")
	}
	var v ObjectVersion
	err := c.walk(size, func(h head) (err error) {
		switch h.number {
		case versionID:
			v.ID, err = c.printable(h)
		case versionVersion:
			v.Version, err = c.printable(h)
		}
		return err
	})
	r.versions = append(r.versions, v)
	return err
}

// decodeError notes that there is an error code. The code is text from outside
// and might be anything, a secret included, so it is not even read.
func (r *reply) decodeError(c *cursor, size int) error {
	return c.walk(size, func(h head) error {
		if h.number == errorCode && h.kind == protowire.BytesType && h.value > 0 {
			r.errorCode = true
		}
		return nil
	})
}

func (r *reply) decodeFile(c *cursor, size int) error {
	if len(r.files) == maxFiles {
		return &fault{BeyondGrant, "more than 64 files"}
	}
	// The element is part of r before it holds anything, so that wipe finds it.
	r.files = append(r.files, replyFile{})
	f := &r.files[len(r.files)-1]
	err := c.walk(size, func(h head) error { return f.decode(c, h) })
	if err == nil && f.contents == nil {
		f.contents = hardening.NewPlaintext(nil)
	}
	return err
}

func (f *replyFile) decode(c *cursor, h head) error {
	if h.number > fileContents {
		return nil
	}
	bit := uint(1) << h.number
	if f.has&bit != 0 {
		// Which of two values counts is where readers differ.
		return invalid("a field of a file occurs twice")
	}
	f.has |= bit
	switch {
	case h.number == fileMode && h.kind == protowire.VarintType:
		f.mode = h.value
		return nil
	case h.number == fileMode || h.kind != protowire.BytesType:
		return errWire
	case h.number == filePath && h.value > maxPath:
		return invalid("a path of more than 4096 bytes")
	}
	p, err := c.take(h.value)
	if h.number == filePath {
		f.path = string(p)
		return err
	}
	f.contents = hardening.NewPlaintext(p)
	return err
}

// printable takes a string that may go into a status object.
func (c *cursor) printable(h head) (string, error) {
	if h.kind != protowire.BytesType {
		return "", errWire
	}
	if h.value > maxText {
		return "", invalid("an object id or version of more than 1024 bytes")
	}
	p, err := c.take(h.value)
	if err != nil {
		return "", err
	}
	s := string(p)
	if !utf8.ValidString(s) {
		return "", invalid("an object id or version that is not UTF-8")
	}
	for _, char := range s {
		if !unicode.IsPrint(char) {
			return "", invalid("an object id or version with control characters")
		}
	}
	return s, nil
}

// wipe overwrites the contents.
func (r *reply) wipe() {
	for _, f := range r.files {
		if f.contents != nil {
			f.contents.Wipe()
		}
	}
	r.files, r.versions = nil, nil
}
