package signature_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

func alice() signature.Identity {
	return signature.Identity{Issuer: "https://issuer.example", Subject: "alice@example.com"}
}

// trustIdentities trusts identities that an authority proves.
func trustIdentities(t *testing.T, a *signaturetest.Authority, holds signaturetest.Holds, list ...signature.Identity) *signature.Trust {
	t.Helper()
	trust, err := signature.NewTrust(signature.Config{Identities: list, TrustedRoot: a.TrustedRoot(t, holds)})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// A certificate that has long ended vouches for good where what the root holds
// proves that it was used in time.
func TestAnIdentityIsVouchedForByItsProofs(t *testing.T) {
	a := signaturetest.NewAuthority(t)
	log, stamps, both := signaturetest.Holds{Log: true}, signaturetest.Holds{Timestamps: true}, signaturetest.Holds{Log: true, Timestamps: true}
	ended := time.Now().Add(-3 * time.Hour)
	for _, form := range signaturetest.Forms() {
		for _, tt := range []struct {
			name  string
			holds signaturetest.Holds
			k     signaturetest.Keyless
		}{
			{"log entry", log, signaturetest.Keyless{NoTimestamp: true}},
			{"log entry of a certificate that has ended", log, signaturetest.Keyless{Issued: ended, NoTimestamp: true}},
			{"log entry, and a timestamp that the root cannot check", log, signaturetest.Keyless{}},
			{"timestamp", stamps, signaturetest.Keyless{NoEntry: true}},
			{"timestamp, and an entry that the root cannot check", stamps, signaturetest.Keyless{}},
			{"both", both, signaturetest.Keyless{}},
			{"both in the root, no timestamp", both, signaturetest.Keyless{NoTimestamp: true}},
		} {
			t.Run(form.Name+"/"+tt.name, func(t *testing.T) {
				tt.k.Identity = alice()
				artifact := form.Artifact(tarball(t))
				artifact.Signatures = []signature.Signature{a.Sign(t, tt.k, form, artifact)}
				other := signature.Identity{Issuer: "https://issuer.example", Subject: "bob@example.com"}
				v, err := trustIdentities(t, a, tt.holds, other, alice()).Verify(t.Context(), artifact)
				if err != nil || len(v.Signers) != 1 || v.Signers[0] != "identity:https://issuer.example alice@example.com" {
					t.Errorf("Verify() = %v, %v, want alice", v, err)
				}
			})
		}
	}
}

func TestAnIdentityThatIsNotProvenIsRefused(t *testing.T) {
	a, b := signaturetest.NewAuthority(t), signaturetest.NewAuthority(t)
	log, stamps := signaturetest.Holds{Log: true}, signaturetest.Holds{Timestamps: true}
	both := signaturetest.Holds{Log: true, Timestamps: true}
	now, ended := time.Now(), time.Now().Add(-3*time.Hour)
	for _, form := range signaturetest.Forms() {
		for _, tt := range []struct {
			name    string
			root    *signaturetest.Authority
			holds   signaturetest.Holds
			trusted signature.Identity
			k       signaturetest.Keyless
			want    []signature.Reason
		}{
			{"other subject", a, both, signature.Identity{Issuer: alice().Issuer, Subject: "bob@example.com"}, signaturetest.Keyless{}, []signature.Reason{signature.WrongSigner}},
			{"subject as a prefix", a, both, signature.Identity{Issuer: alice().Issuer, Subject: "alice@example.co"}, signaturetest.Keyless{}, []signature.Reason{signature.WrongSigner}},
			{"subject as a pattern", a, both, signature.Identity{Issuer: alice().Issuer, Subject: ".*"}, signaturetest.Keyless{}, []signature.Reason{signature.WrongSigner}},
			{"other issuer", a, both, signature.Identity{Issuer: "https://evil.example", Subject: alice().Subject}, signaturetest.Keyless{}, []signature.Reason{signature.WrongSigner}},
			{"other root", b, both, alice(), signaturetest.Keyless{}, []signature.Reason{signature.Log, signature.Certificate, signature.Time}},
			{"log and timestamps of another Sigstore", a, both, alice(), signaturetest.Keyless{Foreign: b}, []signature.Reason{signature.Log, signature.Time}},
			{"timestamp of another authority", a, stamps, alice(), signaturetest.Keyless{Foreign: b}, []signature.Reason{signature.Time}},
			{"certificate of another root, logged in ours", a, log, alice(), signaturetest.Keyless{Foreign: a}, nil},
			{"no entry where the root holds a log", a, both, alice(), signaturetest.Keyless{NoEntry: true}, []signature.Reason{signature.Log}},
			{"no timestamp where the root holds no log", a, stamps, alice(), signaturetest.Keyless{NoTimestamp: true}, []signature.Reason{signature.Time}},
			{"nothing, with a certificate that is valid now", a, log, alice(), signaturetest.Keyless{Issued: now, NoEntry: true, NoTimestamp: true}, []signature.Reason{signature.Log}},
			{"nothing, with a certificate that has ended", a, stamps, alice(), signaturetest.Keyless{Issued: ended, NoEntry: true, NoTimestamp: true}, []signature.Reason{signature.Time}},
			{"timestamp after the certificate's end", a, stamps, alice(), signaturetest.Keyless{Issued: ended, NoEntry: true}, []signature.Reason{signature.Time, signature.Certificate}},
			{"logged after the certificate's end", a, log, alice(), signaturetest.Keyless{Issued: ended, Logged: ended.Add(time.Hour), NoTimestamp: true}, []signature.Reason{signature.Time}},
			{"logged before the certificate's start", a, log, alice(), signaturetest.Keyless{Logged: ended, NoTimestamp: true}, []signature.Reason{signature.Time}},
			{"no proof of the certificate's issue where the root holds such a log", a, signaturetest.Holds{Log: true, CertificateLog: true}, alice(), signaturetest.Keyless{}, []signature.Reason{signature.Certificate}},
		} {
			t.Run(form.Name+"/"+tt.name, func(t *testing.T) {
				tt.k.Identity = alice()
				artifact, signs := form.Artifact(tarball(t)), a
				if tt.want == nil {
					signs, tt.want = b, []signature.Reason{signature.Certificate}
				}
				artifact.Signatures = []signature.Signature{signs.Sign(t, tt.k, form, artifact)}
				wantReason(t, trustIdentities(t, tt.root, tt.holds, tt.trusted), artifact, tt.want...)
			})
		}
	}
}

// What a certificate signed counts no more for another bundle than a key's does.
func TestAnIdentitysSignatureIsOfOneBundle(t *testing.T) {
	a, holds := signaturetest.NewAuthority(t), signaturetest.Holds{Log: true}
	trust := trustIdentities(t, a, holds, alice())
	for _, form := range signaturetest.Forms() {
		t.Run(form.Name, func(t *testing.T) {
			good, other := form.Artifact(tarball(t)), form.Artifact(signaturetest.Tarball(t, signaturetest.File{Name: "x", Text: "y"}))
			other.Signatures = []signature.Signature{a.Sign(t, signaturetest.Keyless{Identity: alice(), NoTimestamp: true}, form, good)}
			wantReason(t, trust, other, signature.Transplanted, signature.Certificate, signature.Log)
			if form.Blob || form.Format != signature.FormatBundle {
				return
			}
			attested := signaturetest.Keyless{Identity: alice(), NoTimestamp: true, Predicate: signaturetest.AttestationPredicate}
			good.Signatures = []signature.Signature{a.Sign(t, attested, form, good)}
			wantReason(t, trust, good, signature.NotSignature)
		})
	}
}

// Keys and identities count together, and a certificate is not a key: its public
// key among the keys is another signer, whom the certificate's signature is not by.
func TestKeysAndIdentitiesCountTogether(t *testing.T) {
	a, s, form := signaturetest.NewAuthority(t), signaturetest.NewSigner(t), signaturetest.Forms()[0]
	c := signature.Config{
		Keys: []signature.Key{s.Key()}, Identities: []signature.Identity{alice()},
		TrustedRoot: a.TrustedRoot(t, signaturetest.Holds{Log: true}), Threshold: 2,
	}
	trust, err := signature.NewTrust(c)
	if err != nil {
		t.Fatal(err)
	}
	artifact := form.Signed(t, tarball(t), s)
	wantReason(t, trust, artifact, signature.TooFew)
	for range 2 {
		artifact.Signatures = append(artifact.Signatures, a.Sign(t, signaturetest.Keyless{Identity: alice()}, form, artifact))
	}
	v, err := trust.Verify(t.Context(), artifact)
	if err != nil || strings.Join(v.Signers, ", ") != "identity:https://issuer.example alice@example.com, "+s.Key().ID {
		t.Errorf("Verify() = %v, %v, want alice and %s", v, err, s.Key().ID)
	}
	artifact.Signatures = artifact.Signatures[1:]
	wantReason(t, trust, artifact, signature.TooFew)
	wantReason(t, signaturetest.Trust(t, 1, s), artifact, signature.Certificate)
}
