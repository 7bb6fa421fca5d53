package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Reason is why the API server gave no answer that can be used.
type Reason string

// All reasons there are.
const (
	Unauthenticated Reason = "unauthenticated"
	Forbidden       Reason = "forbidden"
	Throttled       Reason = "throttled"
	ServerError     Reason = "server error"
	Timeout         Reason = "timeout"
	Unreachable     Reason = "unreachable"
	InvalidAnswer   Reason = "invalid answer"
	NotServed       Reason = "resource not served"
)

// Remedy is what an operator can do.
func (r Reason) Remedy() string {
	switch r {
	case Unauthenticated:
		return "check the service account token or the kubeconfig of the plugin"
	case Forbidden:
		return "apply the plugin's ClusterRole and its binding"
	case Throttled:
		return "wait, or give the plugin's service account a priority level of its own"
	case ServerError, Timeout:
		return "check the health of the API server"
	case Unreachable:
		return "check address, network and certificate authority of the API server; the plugin's log has the cause"
	case InvalidAnswer:
		return "check that the address is that of the API server, and its version"
	case NotServed:
		return "install the CustomResourceDefinitions, and check the address and version of the API server"
	default:
		return "see the plugin's log"
	}
}

// UnavailableError says that the API server gave no answer that can be used. It
// is evidence of nothing, so it must never lead to a denial.
//
// It wraps nothing. What the API server wrote may hold anything, and an error of
// the transport may be one that callers take for their own, such as
// context.Canceled. Causes that are not the API server's words are logged.
type UnavailableError struct {
	Object string // what was read: pod, namespace, ...
	Reason Reason
	Code   int // HTTP status of the answer; 0 without one
}

// Error names the object, the reason and the remedy.
func (e *UnavailableError) Error() string {
	code := ""
	if e.Code != 0 {
		code = fmt.Sprintf(" (HTTP %d)", e.Code)
	}
	return fmt.Sprintf("read %s from the API server: %s%s; hint: %s", e.Object, e.Reason, code, e.Reason.Remedy())
}

// reasonOfCode is what an HTTP status other than 200 means.
func reasonOfCode(code int) Reason {
	switch {
	case code == http.StatusUnauthorized:
		return Unauthenticated
	case code == http.StatusForbidden:
		return Forbidden
	case code == http.StatusNotFound:
		return NotServed // unless the answer names the object, see notFound
	case code == http.StatusTooManyRequests:
		return Throttled
	case code == http.StatusRequestTimeout || code == http.StatusGatewayTimeout:
		return Timeout
	case code >= http.StatusInternalServerError:
		return ServerError
	default: // also redirects: the API server has no other address
		return InvalidAnswer
	}
}

// reasonOf is what an error of a watch means.
func reasonOf(err error) (Reason, int) {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		code := int(status.Status().Code)
		return reasonOfCode(code), code
	}
	return reasonOfTransport(err), 0
}

// reasonOfTransport is what an error without an answer means.
func reasonOfTransport(err error) Reason {
	timeout, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return Timeout
	}
	return Unreachable
}
