package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/hardening"
)

// Error says why a delivery failed. It holds nothing that a provider said,
// and does not unwrap: an error chain must not carry provider text to where
// somebody prints it (the leak of external-secrets#2401).
type Error struct {
	Reason   Reason
	Provider string // "" if the name itself was refused
	detail   string // our words
}

// Error returns one line of our own vocabulary.
func (e *Error) Error() string {
	text := fmt.Sprintf("fetch from provider %q: %s", e.Provider, e.Reason.meaning().text)
	if e.detail == "" {
		return text
	}
	return text + ": " + e.detail
}

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.Reason.meaning().hint }

// Code returns the code for the caller's CSI reply on a first publish.
func (e *Error) Code() codes.Code { return e.Reason.meaning().code }

// MetricType returns the error_type label of upstream's metrics. The provider's
// own error code is never used: a label is no place for text from outside.
func (e *Error) MetricType() string { return e.Reason.meaning().metricType }

// tooLarge is how grpc-go words its own refusal of a long message; the code
// alone is also that of a throttling backend.
const tooLarge = "grpc: received message larger than max"

// callError turns a failed call into an Error. Only the code of err is used.
func callError(ctx context.Context, provider string, err error) *Error {
	if reason, over := contextReason(ctx); over {
		return &Error{Reason: reason, Provider: provider}
	}
	reason := ProviderFailed
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		reason = ProviderDenied
	case codes.Unavailable:
		reason = ProviderUnavailable
	case codes.DeadlineExceeded:
		reason = ProviderTimeout
	case codes.ResourceExhausted:
		reason = ProviderThrottled
		if strings.HasPrefix(status.Convert(err).Message(), tooLarge) {
			reason = ReplyTooLarge
		}
	default:
	}
	return &Error{Reason: reason, Provider: provider}
}

// contextReason tells a deadline from a caller who gave up.
func contextReason(ctx context.Context) (Reason, bool) {
	switch err := ctx.Err(); {
	case err == nil:
		return "", false
	case errors.Is(err, context.DeadlineExceeded):
		return ProviderTimeout, true
	default:
		return Canceled, true
	}
}

// writeError turns a failed write into an Error. Of the cause, only what our
// own packages and the kernel say is kept.
func writeError(provider string, err error) error {
	var limit *hardening.LimitError
	if errors.As(err, &limit) {
		return &Error{VolumeFull, provider, fmt.Sprintf("%s: %d, at most %d", limit.Field, limit.Got, limit.Max)}
	}
	var path *hardening.PathError
	if errors.As(err, &path) {
		return &Error{ReplyInvalid, provider, path.Reason}
	}
	return &Error{WriteFailed, provider, innermost(err).Error()}
}

// innermost returns the first cause: an errno or a sentinel, without the names
// that were wrapped around it.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
