package signaturetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"
	"time"

	cbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// Authority is a Sigstore of its own: a certificate authority, a transparency log
// and a timestamp authority.
type Authority struct {
	virtual *ca.VirtualSigstore
	root    *x509.Certificate
	key     *ecdsa.PrivateKey
}

// NewAuthority makes one, with keys of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	virtual, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := ca.GenerateRootCa()
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{virtual, certificate, key}
}

// Holds is what a trusted root holds beside the certificate authority.
type Holds struct{ Log, Timestamps, CertificateLog bool }

// TrustedRoot is the trusted_root.json of this Sigstore.
func (a *Authority) TrustedRoot(t testing.TB, holds Holds) []byte {
	t.Helper()
	authorities := []root.CertificateAuthority{&root.FulcioCertificateAuthority{
		Root: a.root, URI: "https://fulcio.example", ValidityPeriodStart: a.root.NotBefore, ValidityPeriodEnd: a.root.NotAfter,
	}}
	var logs, certificateLogs map[string]*root.TransparencyLog
	var timestamps []root.TimestampingAuthority
	if holds.Log {
		logs = a.logs(t, a.virtual.RekorLogs())
	}
	if holds.CertificateLog {
		certificateLogs = a.logs(t, a.virtual.CTLogs())
	}
	if holds.Timestamps {
		timestamps = a.virtual.TimestampingAuthorities()
	}
	made, err := root.NewTrustedRoot(root.TrustedRootMediaType01, authorities, certificateLogs, timestamps, logs)
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// logs names logs by their bytes, as a trusted root does, and lets them be as old
// as the authority.
func (a *Authority) logs(t testing.TB, list map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
	t.Helper()
	for name, log := range list {
		id, err := hex.DecodeString(name)
		if err != nil {
			t.Fatal(err)
		}
		log.ID, log.BaseURL, log.ValidityPeriodStart, log.ValidityPeriodEnd = id, "https://log.example", a.root.NotBefore, a.root.NotAfter
	}
	return list
}

// Keyless says how somebody signs with a certificate.
type Keyless struct {
	signature.Identity // its subject is an e-mail address

	Issued time.Time // when the certificate, valid for ten minutes, was issued; zero is now
	Logged time.Time // when the log has seen the signature; zero is one minute later

	NoEntry, NoTimestamp bool // leaves out what proves the time
	Predicate            string
	// Foreign takes the log entry and the timestamp from another Sigstore.
	Foreign *Authority
}

// witness is whose log and timestamps are used.
func (k Keyless) witness(a *Authority) *ca.VirtualSigstore {
	if k.Foreign != nil {
		return k.Foreign.virtual
	}
	return a.virtual
}

// issue makes a certificate. It fills in the times.
func (a *Authority) issue(t testing.TB, k *Keyless) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	if k.Issued.IsZero() {
		k.Issued = time.Now().Add(-2 * time.Minute)
	}
	if k.Logged.IsZero() {
		k.Logged = k.Issued.Add(time.Minute)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.GenerateLeafCert(k.Subject, k.Issuer, k.Issued, key, a.root, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, key
}

// Sign signs an artifact with a certificate, in a form.
func (a *Authority) Sign(t testing.TB, k Keyless, f Form, artifact signature.Artifact) signature.Signature {
	t.Helper()
	leaf, key := a.issue(t, &k)
	switch {
	case f.Format == signature.FormatClassic && f.Blob:
		s := a.classic(t, k, leaf, key, artifact.Tarball)
		s.Payload = nil
		return s
	case f.Format == signature.FormatClassic:
		return a.classic(t, k, leaf, key, Payload("cosign container image signature", Digest(artifact.Manifest)))
	case f.Blob:
		return a.message(t, k, leaf, key, artifact.Tarball)
	}
	predicate := k.Predicate
	if predicate == "" {
		predicate = SignPredicate
	}
	return a.envelope(t, k, leaf, key, Statement(predicate, Digest(artifact.Manifest)))
}

// entry is a log's entry for a signature over data.
func (k Keyless) entry(t testing.TB, log *ca.VirtualSigstore, leaf *x509.Certificate, data, raw []byte) tlog.RekorPayload {
	t.Helper()
	certificate, err := cryptoutils.MarshalCertificateToPEM(leaf)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": raw, "publicKey": map[string]any{"content": certificate}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := log.RekorLogID()
	if err != nil {
		t.Fatal(err)
	}
	return tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: k.Logged.Unix(), LogIndex: 7, LogID: id}
}

func sign(t testing.TB, key crypto.Signer, data []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(data)
	raw, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (a *Authority) classic(t testing.TB, k Keyless, leaf *x509.Certificate, key crypto.Signer, data []byte) signature.Signature {
	t.Helper()
	log, raw := k.witness(a), sign(t, key, data)
	certificate, err := cryptoutils.MarshalCertificateToPEM(leaf)
	if err != nil {
		t.Fatal(err)
	}
	s := signature.Signature{Base64: base64.StdEncoding.EncodeToString(raw), Payload: data, Certificate: certificate}
	if !k.NoEntry {
		entry := k.entry(t, log, leaf, data, raw)
		promise, err := log.RekorSignPayload(entry)
		if err != nil {
			t.Fatal(err)
		}
		s.RekorBundle = marshal(t, cbundle.RekorBundle{SignedEntryTimestamp: promise, Payload: cbundle.RekorPayload{
			Body: entry.Body, IntegratedTime: entry.IntegratedTime, LogIndex: entry.LogIndex, LogID: entry.LogID,
		}})
	}
	if !k.NoTimestamp {
		timestamp, err := log.TimestampResponse(raw)
		if err != nil {
			t.Fatal(err)
		}
		s.Timestamp = marshal(t, cbundle.RFC3161Timestamp{SignedRFC3161Timestamp: timestamp})
	}
	return s
}

func marshal(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// message is a bundle of Sigstore for a file, of the version that takes a log's
// promise for its proof.
func (a *Authority) message(t testing.TB, k Keyless, leaf *x509.Certificate, key crypto.Signer, data []byte) signature.Signature {
	t.Helper()
	log, raw, sum := k.witness(a), sign(t, key, data), sha256.Sum256(data)
	payload := k.entry(t, log, leaf, data, raw)
	encoded, ok := payload.Body.(string)
	if !ok {
		t.Fatalf("body of a log entry is a %T", payload.Body)
	}
	body, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(payload.LogID)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := tlog.NewEntry(body, payload.IntegratedTime, payload.LogIndex, id, nil, nil) //nolint:staticcheck // the successor wants what it makes
	if err != nil {
		t.Fatal(err)
	}
	return k.bundle(t, log, leaf, entry, raw, map[string]any{
		"mediaType":        "application/vnd.dev.sigstore.bundle+json;version=0.1",
		"messageSignature": map[string]any{"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sum[:]}, "signature": raw},
	})
}

// envelope is a bundle of Sigstore for a statement, with a proof of inclusion.
func (a *Authority) envelope(t testing.TB, k Keyless, leaf *x509.Certificate, key crypto.Signer, statement []byte) signature.Signature {
	t.Helper()
	signer, err := sigstore.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := dsse.WrapSigner(signer, "application/vnd.in-toto+json").SignMessage(bytes.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	made, err := cbundle.MakeNewBundle(leaf.PublicKey, nil, statement, text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := new(sgbundle.Bundle)
	if err := b.UnmarshalJSON(made); err != nil {
		t.Fatal(err)
	}
	envelope, err := b.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	raw := envelope.Signature()
	entry, err := k.witness(a).GenerateTlogEntry(leaf, envelope.Envelope, raw, k.Logged.Unix(), true)
	if err != nil {
		t.Fatal(err)
	}
	return k.bundle(t, k.witness(a), leaf, entry, raw, map[string]any{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
		"dsseEnvelope": map[string]any{
			"payload": statement, "payloadType": "application/vnd.in-toto+json", "signatures": []any{map[string]any{"sig": raw}},
		},
	})
}

// bundle adds to a bundle what proves who has signed, and when.
func (k Keyless) bundle(t testing.TB, log *ca.VirtualSigstore, leaf *x509.Certificate, entry *tlog.Entry, raw []byte, b map[string]any) signature.Signature {
	t.Helper()
	certificate := map[string]any{"rawBytes": leaf.Raw}
	material := map[string]any{"certificate": certificate}
	if b["messageSignature"] != nil {
		material = map[string]any{"x509CertificateChain": map[string]any{"certificates": []any{certificate}}}
	}
	if !k.NoEntry {
		material["tlogEntries"] = []any{logEntry(t, log, entry)}
	}
	if !k.NoTimestamp {
		timestamp, err := log.TimestampResponse(raw)
		if err != nil {
			t.Fatal(err)
		}
		material["timestampVerificationData"] = map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": timestamp}}}
	}
	b["verificationMaterial"] = material
	return signature.Signature{Bundle: marshal(t, b)}
}

// logEntry writes an entry with the log's promise, as Rekor hands it out.
func logEntry(t testing.TB, log *ca.VirtualSigstore, entry *tlog.Entry) map[string]any {
	t.Helper()
	made := entry.TransparencyLogEntry()
	text, err := protojson.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var written map[string]any
	var body struct{ Kind, APIVersion string }
	if err := errors.Join(json.Unmarshal(text, &written), json.Unmarshal(made.GetCanonicalizedBody(), &body)); err != nil {
		t.Fatal(err)
	}
	promise, err := log.RekorSignPayload(tlog.RekorPayload{
		Body: entry.Body(), IntegratedTime: made.GetIntegratedTime(), LogIndex: made.GetLogIndex(), LogID: hex.EncodeToString(made.GetLogId().GetKeyId()),
	})
	if err != nil {
		t.Fatal(err)
	}
	written["kindVersion"] = map[string]string{"kind": body.Kind, "version": body.APIVersion}
	written["inclusionPromise"] = map[string]any{"signedEntryTimestamp": promise}
	return written
}
