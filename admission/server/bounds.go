package server

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// Keys of structured log lines.
const (
	keyPath  = "path"
	keyStack = "stack"
)

// What is said to the API server, which shows it to whoever made the request.
const (
	textBusy  = "portcullis-webhook has too many reviews at once; hint: try again"
	textLarge = "the review is larger than portcullis-webhook reads; hint: make the object smaller than 1 MiB"
	textPanic = "portcullis-webhook could not review this; hint: see its log"
	textCut   = "the review did not arrive whole"
)

// bounded gives a review its turn and its body, or says why not.
func (s *Server) bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > MaxBody {
			http.Error(w, textLarge, http.StatusRequestEntityTooLarge)
			return
		}
		if !s.enter(r) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, textBusy, http.StatusServiceUnavailable)
			return
		}
		defer func() { <-s.slots }()
		// After the turn has come, so that those who wait hold no memory; and as a
		// whole, so that a reader with a bound of its own answers nothing else.
		body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
		switch {
		case err != nil:
			http.Error(w, textCut, http.StatusBadRequest)
			return
		case len(body) > MaxBody:
			http.Error(w, textLarge, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.answer(w, r, h)
	})
}

// enter waits for a turn for as long as the caller still has use of an answer.
func (s *Server) enter(r *http.Request) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(s.c.Patience)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-r.Context().Done():
	}
	return false
}

// answer has a review answered. The answer is held back until it is whole, so that
// a panic leaves none behind.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, h http.Handler) {
	kept := &held{ResponseWriter: w, code: http.StatusOK}
	defer func() {
		if recover() != nil { // its text may quote the object, and the object a credential
			s.c.Logger.Error("review refused: a panic, which is a bug; please report the stack", slog.String(keyPath, r.URL.Path), slog.String(keyStack, string(debug.Stack())))
			http.Error(w, textPanic, http.StatusInternalServerError)
		}
	}()
	h.ServeHTTP(kept, r)
	if kept.code != http.StatusOK {
		w.WriteHeader(kept.code)
	}
	_, _ = w.Write(kept.body.Bytes())
}

// held is an answer that was not sent yet.
type held struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (h *held) WriteHeader(code int)        { h.code = code }
func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }
