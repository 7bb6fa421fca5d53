package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Reason says why a registry did not give or take a bundle. The list is closed, for
// metrics and events.
type Reason string

// The reasons.
const (
	ReasonNotFound     Reason = "not_found"    // no such repository, tag, digest or blob
	ReasonUnauthorized Reason = "unauthorized" // credentials are missing or wrong
	ReasonForbidden    Reason = "forbidden"    // credentials do not reach that far
	ReasonThrottled    Reason = "throttled"    // too many requests
	ReasonUnavailable  Reason = "unavailable"  // not reached, or it reports a failure of its own
	ReasonTLS          Reason = "tls"          // its certificate is not trusted
	ReasonPlainHTTP    Reason = "plain_http"   // it wants to go on without TLS
	ReasonTimeout      Reason = "timeout"      // it took too long
	ReasonTooLarge     Reason = "too_large"    // it answers with more than there can be
	ReasonWrongDigest  Reason = "wrong_digest" // it answers with other bytes than the digest's
	ReasonNotBundle    Reason = "not_a_bundle" // what is there is no bundle
	ReasonMalformed    Reason = "malformed"    // it answers in a way that no registry does
	ReasonCredentials  Reason = "credentials"  // the file with the credentials cannot be used
)

// Error is what became of an operation. Its text repeats nothing of what the
// registry said, except quoted, with its controls escaped, and clipped.
type Error struct {
	Reason    Reason
	Reference string // what was asked for
	Status    int    // of HTTP, 0 if it is not about one
	doing     string
	detail    string
	hint      string
	ended     error // set if the context had ended
}

// Error says what was refused, why, and what helps.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: %s; hint: %s", e.Reference, e.doing, e.detail, e.hint)
}

// Unwrap returns context.Canceled or context.DeadlineExceeded where that was the
// cause, and otherwise nothing: the errors below repeat the registry's text.
func (e *Error) Unwrap() error { return e.ended }

// problem is an Error in the making, inside the package.
type problem struct {
	reason       Reason
	detail, hint string
	status       int
}

func (p *problem) Error() string { return p.detail }

func problemf(reason Reason, hint, format string, args ...any) *problem {
	return &problem{reason: reason, hint: hint, detail: fmt.Sprintf(format, args...)}
}

// fail turns whatever went wrong into an Error.
func fail(ref fmt.Stringer, doing string, err error) error {
	if err == nil {
		return nil
	}
	if done, ok := errors.AsType[*Error](err); ok {
		return done
	}
	e := &Error{Reference: ref.String(), doing: doing}
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			e.ended = end
		}
	}
	p := classify(err)
	e.Reason, e.Status, e.detail, e.hint = p.reason, p.status, p.detail, p.hint
	return e
}

// classify finds the cause in what the layers below report. TLS and the network
// come before what this package refuses: where go-containerregistry has tried both
// schemes, the first one tells more.
func classify(err error) *problem {
	if p := ofTLS(err); p != nil {
		return p
	}
	if timedOut(err) {
		return problemf(ReasonTimeout, "is the registry slow, or is a firewall in between?", "it took too long")
	}
	if errors.Is(err, context.Canceled) {
		return problemf(ReasonTimeout, "it was interrupted; try again", "it was canceled")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return problemf(ReasonUnavailable, "check the name, the port, the network and a proxy", "the registry cannot be reached: %s", quote(op.Error()))
	}
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		return ofStatus(t.StatusCode)
	}
	return problemf(ReasonMalformed, "is there a registry at that address?", "it does not answer as a registry does: %s", quote(err.Error()))
}

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func ofTLS(err error) *problem {
	const hint = "give the CA file of the registry, or mend its certificate"
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return problemf(ReasonPlainHTTP, "it seems to speak http: give it TLS, or allow plain http for it", "it does not speak TLS")
	}
	cause, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		if alert, ok := errors.AsType[tls.AlertError](err); ok {
			return problemf(ReasonTLS, hint, "TLS failed: %s", quote(alert.Error()))
		}
		return nil
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](cause); ok {
		return problemf(ReasonTLS, hint, "its certificate is signed by an unknown authority")
	}
	return problemf(ReasonTLS, hint, "its certificate is not good: %s", quote(cause.Err.Error()))
}

// ofStatus says what an answer of HTTP means. Nothing of the answer's text is
// repeated.
func ofStatus(code int) *problem {
	p := &problem{status: code, detail: fmt.Sprintf("it answers %d %s", code, http.StatusText(code))}
	switch {
	case code == http.StatusUnauthorized:
		p.reason, p.hint = ReasonUnauthorized, "the registry wants credentials, or others: look at the entry of its host in the credentials file"
	case code == http.StatusForbidden:
		p.reason, p.hint = ReasonForbidden, "the credentials do not allow this on that repository"
	case code == http.StatusNotFound:
		p.reason, p.hint = ReasonNotFound, "check repository, tag and digest; many registries also answer so where credentials are missing"
	case code == http.StatusTooManyRequests:
		p.reason, p.hint = ReasonThrottled, "ask less often, or with credentials"
	case code >= 500:
		p.reason, p.hint = ReasonUnavailable, "the registry has a failure of its own: try again later, and see its log"
	default:
		p.reason, p.hint = ReasonMalformed, "is there a registry at that address?"
	}
	return p
}

// quote makes foreign text fit to be read: in quotes, clipped, and without what a
// terminal or a log would act on.
func quote(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strconv.QuoteToASCII(text)
}
