package podstatus

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trouble is why something is not written. There is a closed list of them: what
// an API server answers repeats what it was sent, and has no place in a log.
type trouble string

const (
	troubleNone         trouble = ""
	troubleUnreachable  trouble = "api-server-unreachable"
	troubleServer       trouble = "api-server-error"
	troubleThrottled    trouble = "throttled"
	troubleUnauthorized trouble = "unauthorized"
	troubleForbidden    trouble = "forbidden"
	troubleNotInstalled trouble = "crd-not-installed"
	troubleContended    trouble = "contended"
	troubleDeleting     trouble = "object-being-deleted"
	troubleRefused      trouble = "object-refused" // by validation, or by an admission webhook or policy
	troubleTooMuch      trouble = "list-too-large"
	troubleGone         trouble = "pod-or-namespace-gone"
)

// lastingFactor lengthens the wait after what only people can mend, so that the
// nodes of a cluster do not ask an API server once a minute, each for each pod.
const lastingFactor = 10

// lasts reports whether the same request fails until somebody mends something:
// a role, the definitions, or the policy that refuses the object.
func (t trouble) lasts() bool {
	return t == troubleForbidden || t == troubleNotInstalled || t == troubleRefused
}

func troubleOf(err error) trouble {
	switch {
	case err == nil:
		return troubleNone
	case errors.Is(err, errPodGone):
		return troubleGone
	case errors.Is(err, errBeingDeleted):
		return troubleDeleting
	case errors.Is(err, errContended):
		return troubleContended
	case errors.Is(err, errTooMuch):
		return troubleTooMuch
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return troubleGone
	}
	answer, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return troubleUnreachable
	}
	return troubleOfStatus(answer.Status())
}

func troubleOfStatus(s metav1.Status) trouble {
	switch s.Code {
	case http.StatusUnauthorized:
		return troubleUnauthorized
	case http.StatusForbidden:
		return troubleForbidden
	case http.StatusNotFound:
		// Of the objects themselves none is missing here, so it is where they
		// would be: the namespace, or the definition of the resource.
		if s.Details != nil && s.Details.Kind == "namespaces" {
			return troubleGone
		}
		return troubleNotInstalled
	case http.StatusConflict:
		return troubleContended
	case http.StatusTooManyRequests:
		return troubleThrottled
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return troubleRefused
	default:
		return troubleServer
	}
}

// longestDelay bounds what an API server may ask for with Retry-After.
const longestDelay = 5 * time.Minute

func delayAsked(err error) time.Duration {
	seconds, ok := apierrors.SuggestsClientDelay(err)
	if !ok {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, longestDelay)
}

// troubles counts the objects in each kind of trouble, so that one line says
// when a kind begins and one when it ends, however many pods a node has.
type troubles struct {
	logger *slog.Logger
	count  map[trouble]int
}

func newTroubles(logger *slog.Logger) troubles {
	return troubles{logger, map[trouble]int{}}
}

// move takes one object from one kind to another.
func (t troubles) move(from, to trouble) {
	if from == to {
		return
	}
	if from != troubleNone {
		t.count[from]--
		if t.count[from] == 0 {
			delete(t.count, from)
			t.logger.Info("status objects are not held up any more", slog.String(keyTrouble, string(from)))
		}
	}
	if to != troubleNone {
		t.count[to]++
		if t.count[to] == 1 {
			t.logger.Warn("status objects are not written, mounting goes on", slog.String(keyTrouble, string(to)))
		}
	}
}
