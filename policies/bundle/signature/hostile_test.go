package signature_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

func TestBoundsHold(t *testing.T) {
	s := signaturetest.NewSigner(t)
	trust := signaturetest.Trust(t, 1, s)
	for _, form := range signaturetest.Forms() {
		t.Run(form.Name, func(t *testing.T) {
			good := form.Signed(t, tarball(t), s)
			with := func(list ...signature.Signature) signature.Artifact {
				a := good
				a.Signatures = list
				return a
			}
			full := make([]signature.Signature, signature.MaxSignatures-1, signature.MaxSignatures+1)
			full = append(full, good.Signatures...)
			if _, err := trust.Verify(t.Context(), with(full...)); err != nil {
				t.Errorf("Verify() of %d signatures, the last one right = %v, want no error", len(full), err)
			}
			wantReason(t, trust, with(append(full, good.Signatures...)...), signature.TooLarge)
			for name, large := range map[string]signature.Signature{
				"bundle":  {Bundle: make([]byte, signature.MaxSignatureBytes+1)},
				"base64":  {Base64: strings.Repeat("A", signature.MaxSignatureBytes+1)},
				"chain":   {Base64: "AAAA", Chain: make([]byte, signature.MaxSignatureBytes)},
				"payload": {Base64: "AAAA", Payload: make([]byte, signature.MaxSignatureBytes)},
			} {
				t.Run(name, func(t *testing.T) { wantReason(t, trust, with(large), signature.TooLarge) })
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if v, err := trust.Verify(ended, good); err == nil || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("Verify() after the end = %v, %v, want that it was interrupted", v, err)
			}
			empty := good
			empty.Tarball = nil
			wantReason(t, trust, empty, signature.Malformed)
		})
	}
	large := signaturetest.Forms()[0].Signed(t, tarball(t), s)
	large.Manifest = append(large.Manifest, bytes.Repeat([]byte(" "), signature.MaxManifestBytes)...)
	wantReason(t, trust, large, signature.TooLarge)
}

// What is made to hurt the libraries is refused, and takes nobody down: fields that
// are null, that nest, that are huge, and timestamps of nobody.
func TestHostileBundlesAreRefused(t *testing.T) {
	a, s := signaturetest.NewAuthority(t), signaturetest.NewSigner(t)
	trust, err := signature.NewTrust(signature.Config{
		Keys: []signature.Key{s.Key()}, Identities: []signature.Identity{alice()},
		TrustedRoot: a.TrustedRoot(t, signaturetest.Holds{Log: true, Timestamps: true}),
	})
	if err != nil {
		t.Fatal(err)
	}
	huge, _ := json.Marshal(bytes.Repeat([]byte("x"), 20<<10))
	for _, form := range signaturetest.Forms() {
		if form.Format != signature.FormatBundle {
			continue
		}
		artifact := form.Artifact(tarball(t))
		bundle := a.Sign(t, signaturetest.Keyless{Identity: alice()}, form, artifact).Bundle
		var members map[string]json.RawMessage
		if err := json.Unmarshal(bundle, &members); err != nil {
			t.Fatal(err)
		}
		var paths []string
		walk(members["verificationMaterial"], "", &paths)
		for _, path := range paths {
			for _, value := range []string{`null`, `{}`, `[]`, `""`, `"AA=="`, `0`, `[{}]`, `[null]`, string(huge), strings.Repeat("[", 20000) + strings.Repeat("]", 20000)} {
				changed := replace(t, bundle, "/verificationMaterial"+path, json.RawMessage(value))
				artifact.Signatures = []signature.Signature{{Bundle: changed}}
				// Some of it proves nothing that is needed: a hint, a second proof.
				if _, err := trust.Verify(t.Context(), artifact); err != nil && !strings.Contains(err.Error(), "; hint: ") {
					t.Errorf("Verify() with %s = %.60s: %v, want an Error or nobody hurt", path, value, err)
				}
			}
		}
		for _, path := range []string{"/verificationMaterial", "/messageSignature", "/dsseEnvelope", "/mediaType"} {
			if members[path[1:]] == nil {
				continue
			}
			for _, value := range []string{`null`, `{}`, `[]`, `""`} {
				artifact.Signatures = []signature.Signature{{Bundle: replace(t, bundle, path, json.RawMessage(value))}}
				wantReason(t, trust, artifact, signature.Malformed, signature.OtherForm)
			}
		}
	}
}

// walk lists the places in a JSON value.
func walk(raw json.RawMessage, at string, paths *[]string) {
	*paths = append(*paths, at)
	var members map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(raw, &members) == nil {
		for name, value := range members {
			walk(value, at+"/"+name, paths)
		}
	} else if json.Unmarshal(raw, &items) == nil && len(items) > 0 {
		walk(items[0], at+"/0", paths)
	}
}

// replace puts a value at one place.
func replace(t *testing.T, raw json.RawMessage, at string, value json.RawMessage) json.RawMessage {
	t.Helper()
	if at == "" {
		return value
	}
	name, rest, _ := strings.Cut(at[1:], "/")
	if rest != "" {
		rest = "/" + rest
	}
	var members map[string]json.RawMessage
	var items []json.RawMessage
	var out []byte
	var err error
	if json.Unmarshal(raw, &members) == nil {
		members[name] = replace(t, members[name], rest, value)
		out, err = marshalRaw(members)
	} else if err = json.Unmarshal(raw, &items); err == nil {
		items[0] = replace(t, items[0], rest, value)
		out, err = marshalRaw(items)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// marshalRaw writes values that need not be fit for encoding/json, which bounds the
// depth.
func marshalRaw[T map[string]json.RawMessage | []json.RawMessage](value T) ([]byte, error) {
	var parts []string
	switch v := any(value).(type) {
	case map[string]json.RawMessage:
		for name, member := range v {
			parts = append(parts, `"`+name+`":`+string(member))
		}
		return []byte("{" + strings.Join(parts, ",") + "}"), nil
	case []json.RawMessage:
		for _, item := range v {
			parts = append(parts, string(item))
		}
	}
	return []byte("[" + strings.Join(parts, ",") + "]"), nil
}

// cosign indexes into the timestamps that verified without asking whether any did,
// and asserts the type of an entry's body.
func TestHostileClassicProofsAreRefused(t *testing.T) {
	a := signaturetest.NewAuthority(t)
	both := trustIdentities(t, a, signaturetest.Holds{Log: true, Timestamps: true}, alice())
	for _, form := range signaturetest.Forms() {
		if form.Format != signature.FormatClassic {
			continue
		}
		artifact := form.Artifact(tarball(t))
		good := a.Sign(t, signaturetest.Keyless{Identity: alice()}, form, artifact)
		for _, tt := range []struct {
			name   string
			change func(*signature.Signature)
			want   signature.Reason
		}{
			{"timestamp of nobody", func(s *signature.Signature) { s.Timestamp = []byte(`{"SignedRFC3161Timestamp":"AAAA"}`) }, signature.Time},
			{"timestamp that is empty", func(s *signature.Signature) { s.Timestamp = []byte(`{}`) }, signature.Malformed},
			{"timestamp that is null", func(s *signature.Signature) { s.Timestamp = []byte(`null`) }, signature.Malformed},
			{"timestamp that is huge", func(s *signature.Signature) { s.Timestamp = make([]byte, 20<<10) }, signature.TooLarge},
			{"entry that is null", func(s *signature.Signature) { s.RekorBundle = []byte(`null`) }, signature.Malformed},
			{"entry with a number for its body", func(s *signature.Signature) { s.RekorBundle = []byte(`{"Payload":{"body":1}}`) }, signature.Malformed},
			{"entry of another kind", func(s *signature.Signature) {
				body := base64.StdEncoding.EncodeToString([]byte(`{"apiVersion":"0.0.1","kind":"intoto","spec":{}}`))
				s.RekorBundle = []byte(`{"SignedEntryTimestamp":"AAAA","Payload":{"body":"` + body + `"}}`)
			}, signature.Malformed},
			{"entry with another time", func(s *signature.Signature) {
				s.RekorBundle = bytes.Replace(s.RekorBundle, []byte(`"logIndex":7`), []byte(`"logIndex":8`), 1)
			}, signature.Log},
			{"two certificates", func(s *signature.Signature) { s.Certificate = append(bytes.Clone(s.Certificate), s.Certificate...) }, signature.Malformed},
			{"certificate that is none", func(s *signature.Signature) { s.Certificate = []byte("x") }, signature.Malformed},
			{"both formats", func(s *signature.Signature) { s.Bundle = []byte("{}") }, signature.Malformed},
			{"Base64 with a line break", func(s *signature.Signature) { s.Base64 += "\n" }, signature.Malformed},
			{"document with a key twice", func(s *signature.Signature) {
				s.Payload = bytes.Replace(s.Payload, []byte(`"optional":`), []byte(`"optional":{},"optional":`), 1)
			}, signature.Malformed},
			{"document with escapes for a terminal", func(s *signature.Signature) { s.Payload = []byte("{\"\x1b[31m\\u001b\":1}") }, signature.Malformed},
		} {
			t.Run(form.Name+"/"+tt.name, func(t *testing.T) {
				bad := good
				tt.change(&bad)
				if form.Blob && strings.HasPrefix(tt.name, "document") {
					t.Log("a file has no document, so that one is too much")
					tt.want = signature.OtherForm
					if bad.Payload == nil {
						bad.Payload = []byte("{}")
					}
				}
				a := artifact
				a.Signatures = []signature.Signature{bad}
				wantReason(t, both, a, tt.want)
			})
		}
	}
}
