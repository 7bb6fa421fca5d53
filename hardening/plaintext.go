package hardening

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
)

const redacted = "[redacted]"

// Plaintext is a secret value. fmt and slog render it as "[redacted]";
// marshalling it is an error, since a secret in JSON is a bug.
type Plaintext struct {
	// A closure rather than a slice: debug printers that walk unexported
	// fields by reflection and unsafe find a code address and nothing else.
	reveal func() *plainBytes
}

type plainBytes struct {
	mu    sync.RWMutex
	b     []byte
	wiped bool
}

// NewPlaintext takes ownership of b: the caller must not use it again.
func NewPlaintext(b []byte) *Plaintext {
	held := &plainBytes{b: b}
	return &Plaintext{reveal: func() *plainBytes { return held }}
}

// Use calls f with the bytes, the only way to them. f must neither keep nor
// change the slice, nor call Wipe. After Wipe it is ErrWiped.
func (p *Plaintext) Use(f func([]byte) error) error {
	held := p.held()
	if held == nil {
		return ErrWiped
	}
	held.mu.RLock()
	defer held.mu.RUnlock()
	if held.wiped {
		return ErrWiped
	}
	return f(held.b)
}

// Len returns the number of bytes, 0 after Wipe.
func (p *Plaintext) Len() int {
	held := p.held()
	if held == nil {
		return 0
	}
	held.mu.RLock()
	defer held.mu.RUnlock()
	return len(held.b)
}

// Wipe clears the bytes up to the capacity of their slice, since an append or
// a reslice may have left secret bytes behind its length.
func (p *Plaintext) Wipe() {
	held := p.held()
	if held == nil {
		return
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	clear(held.b[:cap(held.b)])
	held.b, held.wiped = nil, true
}

func (p *Plaintext) held() *plainBytes {
	if p == nil || p.reveal == nil {
		return nil
	}
	return p.reveal()
}

// String returns "[redacted]".
func (Plaintext) String() string { return redacted }

// GoString returns "[redacted]".
func (Plaintext) GoString() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (Plaintext) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue returns "[redacted]".
func (Plaintext) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns ErrMarshal.
func (Plaintext) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }

// MarshalText returns ErrMarshal; encoding/xml and most others use it.
func (Plaintext) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary returns ErrMarshal.
func (Plaintext) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalYAML returns ErrMarshal.
func (Plaintext) MarshalYAML() (any, error) { return nil, ErrMarshal }

// GobEncode returns ErrMarshal.
func (Plaintext) GobEncode() ([]byte, error) { return nil, ErrMarshal }
