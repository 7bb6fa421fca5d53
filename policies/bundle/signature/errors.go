package signature

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reason says why an artifact is not vouched for. The list is closed: events and
// metrics carry it.
type Reason string

// The reasons, the more telling last: of several signatures that fail for several
// reasons, the error names the last of this list.
const (
	NoTrust      Reason = "no_trust"        // nobody is trusted
	Interrupted  Reason = "interrupted"     // the context ended first
	TooLarge     Reason = "too_large"       // a bound is exceeded
	Unsigned     Reason = "unsigned"        // there is no signature
	Malformed    Reason = "malformed"       // a manifest or signature cannot be read
	Altered      Reason = "altered"         // the manifest is not that of this tarball
	OtherForm    Reason = "other_form"      // a signature of a blob for a manifest, or the reverse
	WrongKey     Reason = "wrong_key"       // signed by none of the keys
	Certificate  Reason = "certificate"     // of none of the root's authorities, or no identities are given
	Log          Reason = "log"             // no proof of the transparency log
	Time         Reason = "time"            // no proof that it was signed while the certificate was valid
	WrongSigner  Reason = "wrong_identity"  // a certificate of somebody else
	NotSignature Reason = "not_a_signature" // signed by one who is trusted, but an attestation
	Transplanted Reason = "transplanted"    // signed by one who is trusted, but something else
	TooFew       Reason = "too_few_signers" // fewer distinct signers than needed
)

// Reasons returns the closed list, the more telling last.
func Reasons() []Reason {
	return []Reason{
		NoTrust, Interrupted, TooLarge, Unsigned, Malformed, Altered, OtherForm, WrongKey, Certificate,
		Log, Time, WrongSigner, NotSignature, Transplanted, TooFew,
	}
}

// rank orders reasons: the error names the highest.
func (r Reason) rank() int { return slices.Index(Reasons(), r) }

// text returns what the reason says, and what to do about it.
func (r Reason) text() (problem, hint string) {
	switch r {
	case Interrupted:
		return "interrupted before anybody was found to vouch for it", "the next load tries again"
	case TooLarge:
		return "more than a bundle's signatures need", "a signature has at most 256 KiB, a manifest 64 KiB, and a bundle 32 signatures"
	case Unsigned:
		return "not signed", "sign it with portcullis policy sign or cosign sign"
	case Malformed:
		return "what vouches for it cannot be read", "sign it again with portcullis policy sign or cosign sign"
	case Altered:
		return "the manifest is not that of this bundle", "push it again with portcullis policy push, and sign what was pushed"
	case OtherForm:
		return "signed in the form for something else", "a manifest is signed with cosign sign, a file with cosign sign-blob"
	case WrongKey:
		return "signed, but by none of the keys given", "sign it with one of them, or give the public key of its signer with --policy-key"
	case Certificate:
		return "signed with a certificate that the given root and identities do not cover", "give the root of its authority with --policy-trusted-root, and the signer with --policy-identity"
	case Log:
		return "signed, but not proven to be in the transparency log of the given root", "sign with an upload to that log"
	case Time:
		return "signed, but not proven to be signed while its certificate was valid", "sign with a log entry or a timestamp of an authority that the given root holds"
	case WrongSigner:
		return "signed by an identity that is not given", "give the issuer and the subject of its certificate exactly with --policy-identity"
	case NotSignature:
		return "attested by one who is trusted, but not signed", "an attestation vouches for what it states only; sign it with cosign sign"
	case Transplanted:
		return "the signature is by one who is trusted, but of something else", "the bundle was changed after it was signed, or the signature was copied; sign this one"
	case TooFew:
		return "signed by fewer distinct signers than needed", "have further signers sign it, or lower --policy-signatures"
	case NoTrust:
	}
	return "nobody is trusted to sign", "give --policy-key, or --policy-identity with --policy-trusted-root"
}

// Error says why an artifact is refused. Its text has no byte of the artifact that
// is not printable ASCII.
type Error struct {
	Reason Reason
	Digest string // of what had to be signed, as sha256:<hex>; empty where the artifact does not tell
	// Signers are those who did sign, where they were too few.
	Signers []string
	Needed  int    // of distinct signers
	Detail  string // one line, printable
}

func (e *Error) Error() string {
	problem, hint := e.Reason.text()
	var b strings.Builder
	b.WriteString("verify signatures of policy bundle")
	if e.Digest != "" {
		b.WriteString(" " + e.Digest)
	}
	b.WriteString(": " + problem)
	if e.Reason == TooFew {
		fmt.Fprintf(&b, ": %d of %d (%s)", len(e.Signers), e.Needed, strings.Join(e.Signers, ", "))
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String() + "; hint: " + hint
}

// refuse makes an error with a detail that may hold bytes of the artifact.
func refuse(r Reason, detail string) *Error {
	return &Error{Reason: r, Detail: printable(detail)}
}

// maxDetail is enough for what the libraries say of one signature.
const maxDetail = 300

// printable is text with everything escaped that a terminal or a log could take
// for something else, and with an end.
func printable(text string) string {
	more := ""
	if len(text) > maxDetail {
		text, more = text[:maxDetail], "..."
	}
	quoted := strconv.QuoteToASCII(text)
	// The quotes of Go are not wanted around a sentence, nor their escapes within.
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + more
}
