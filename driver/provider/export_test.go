package provider

import (
	"google.golang.org/grpc/mem"

	"github.com/portcullis-csi/portcullis/policies"
)

// OnFragment lets a test keep what the codec is about to wipe.
func (d *Deliverer) OnFragment(see func([]byte)) { d.codec.inspect = see }

// Accept decodes data as the codec would and compares it with the grant. The
// contents are those of the reply, by path.
func Accept(g policies.Grant, data mem.BufferSlice) (Delivered, map[string][]byte, error) {
	r := &reply{}
	defer r.wipe()
	if err := (codec{}).Unmarshal(data, r); err != nil {
		return Delivered{}, nil, err
	}
	files, d, err := accept(g, r)
	if err != nil {
		return Delivered{}, nil, faultError(g.Provider(), err)
	}
	contents := map[string][]byte{}
	for _, f := range files {
		err := f.Data.Use(func(p []byte) error { contents[f.Path] = append([]byte{}, p...); return nil })
		if err != nil {
			return Delivered{}, nil, err
		}
	}
	return d, contents, nil
}

// Quote is how a request holds a JSON string.
func Quote(p []byte) []byte {
	var s scratch
	s.quote(p)
	return s.b
}

// RequestBuffers encodes a request and returns the memory that it lay in after
// grpc has given it back.
func RequestBuffers(c Call) (encoded string, after []byte, err error) {
	r, err := newRequest(c)
	if err != nil {
		return "", nil, err
	}
	data, err := codec{}.Marshal(r)
	if err != nil {
		return "", nil, err
	}
	after = r.b[:cap(r.b)]
	encoded = string(r.b)
	data.Free()
	return encoded, after, nil
}

// Reasons is the closed list.
func Reasons() []Reason {
	return []Reason{
		NotGranted, ParametersChanged, ProviderNotFound, SocketUntrusted, ProviderBusy, ProviderUnavailable,
		ProviderTimeout, ProviderDenied, ProviderThrottled, ProviderFailed, ProviderError, ProviderWroteItself,
		VersionIncompatible, Canceled, ReplyInvalid, ReplyTooLarge, BeyondGrant, VolumeFull, WriteFailed,
	}
}

// ErrorOf makes the error that a Deliverer would return.
func ErrorOf(r Reason) *Error { return &Error{Reason: r, Provider: "local"} }

// OtherVersion is otherVersion.
func OtherVersion(answer string) string { return otherVersion(answer) }
