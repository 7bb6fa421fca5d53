package daemon

import (
	"bytes"
	"net/http"
)

// OneByOne has one request handled at a time, however slowly an answer is read:
// anybody who reaches the plugin may ask, and each answer takes work and memory.
// Who has gone by then gets none.
func OneByOne(h http.Handler) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		kept := &answer{header: w.Header(), code: http.StatusOK}
		func() {
			defer func() { <-turn }()
			h.ServeHTTP(kept, r)
		}()
		w.WriteHeader(kept.code)
		_, _ = kept.body.WriteTo(w)
	})
}

// answer keeps an answer until there is time to send it.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
