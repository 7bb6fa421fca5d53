package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/portcullis-csi/portcullis/driver"
)

var errStarting = errors.New("the log and the mount table are being read; hint: wait, and see the plugin's log if it takes minutes")

// health answers probes from the first moment: reading a large log may take
// longer than a kubelet waits for /healthz.
type health struct {
	handler atomic.Pointer[http.Handler]
}

func (h *health) set(checks []driver.Check) {
	handler := driver.HealthHandler(checks)
	h.handler.Store(&handler)
}

func (h *health) starting() {
	h.set([]driver.Check{{Name: "start", Err: func() error { return errStarting }}})
}

func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*h.handler.Load()).ServeHTTP(w, r)
}

// serveHealth serves --health-addr, with a readiness that says that the plugin
// starts, until serveEndpoints knows better.
func (p *plugin) serveHealth(ctx context.Context) error {
	p.health.starting()
	return endpoint{"--health-addr", p.o.healthAddr, &p.health}.serveHTTP(ctx, p.logger)
}
