package cluster

import (
	"fmt"
	"net/http"
)

// RefusedError says what the API server did not answer.
type RefusedError struct {
	Verb      string // get or list
	Resource  string // pods, for example, with its group where it has one
	Namespace string // "" for what is in none, and for all of them
	Name      string // "" for lists
	Code      int    // of HTTP; 0: no answer came
	Cause     error  // of the transport, where no answer came
}

// Error names the verb, the object and the remedy.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s; hint: %s", e.Problem(), e.Remedy())
}

// Problem says what was asked and not answered.
func (e *RefusedError) Problem() string {
	what := e.Verb + " " + e.Resource
	if e.Name != "" {
		what += " " + e.Name
	}
	if e.Namespace != "" {
		what += " in namespace " + e.Namespace
	}
	if e.Code == 0 {
		return fmt.Sprintf("%s: the API server did not answer: %v", what, e.Cause)
	}
	return fmt.Sprintf("%s: the API server answered %d (%s)", what, e.Code, http.StatusText(e.Code))
}

// Remedy says what its user can do.
func (e *RefusedError) Remedy() string {
	switch e.Code {
	case 0:
		return "check the kubeconfig, its context and the network; kubectl version shows whether the API server answers"
	case http.StatusUnauthorized:
		return "log in again: the credentials of the kubeconfig are not accepted"
	case http.StatusForbidden:
		where := "in all namespaces"
		if e.Namespace != "" {
			where = "in namespace " + e.Namespace
		}
		return fmt.Sprintf("ask for the right to %s %s %s, or give the objects as files with -f and leave out --cluster", e.Verb, e.Resource, where)
	case http.StatusNotFound:
		return "install the CustomResourceDefinitions, or check that the context is that of the right cluster"
	case http.StatusGone:
		return "the list changed while it was read; try again"
	default:
		return "try again; kubectl get --raw /readyz shows whether the API server is well"
	}
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }
