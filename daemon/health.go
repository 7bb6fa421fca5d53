package daemon

import (
	"errors"
	"net/http"
	"sync/atomic"
)

// Health answers probes from the first moment: reading a large log may take longer
// than a kubelet waits for /healthz.
type Health struct {
	otherwise string
	handler   atomic.Pointer[http.Handler]
}

// NewHealth returns a Health that is not ready, since the program starts: starting
// says what it does first, and otherwise what does not happen until it is ready.
func NewHealth(starting, otherwise string) *Health {
	h := &Health{otherwise: otherwise}
	err := errors.New(starting)
	h.Set([]Check{{Name: "start", Err: func() error { return err }}})
	return h
}

// Set says what readiness is from now on.
func (h *Health) Set(checks []Check) {
	handler := HealthHandler(checks, h.otherwise)
	h.handler.Store(&handler)
}

// ServeHTTP answers /healthz and /readyz.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*h.handler.Load()).ServeHTTP(w, r)
}
