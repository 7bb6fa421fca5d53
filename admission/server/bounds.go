package server

import (
	"bytes"
	"io"
	"log/slog"
	"net"
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
	textHeavy = "the review has longer lists than portcullis-webhook reads; hint: make the object smaller"
	textPanic = "portcullis-webhook could not review this; hint: see its log"
	textCut   = "the review did not arrive whole"
	textForm  = "portcullis-webhook takes reviews as application/json; hint: call it by a ValidatingWebhookConfiguration"
)

// bounded gives a review its turn and its body, or says why not. What it refuses
// leaves no line in the log: whoever reaches the port could fill the node's disk.
func (s *Server) bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Content-Type") != "application/json":
			http.Error(w, textForm, http.StatusUnsupportedMediaType)
			return
		case r.ContentLength > MaxBody:
			http.Error(w, textLarge, http.StatusRequestEntityTooLarge)
			return
		}
		conn := http.NewResponseController(w)
		mine := &turn{from: addressOf(r.RemoteAddr), bytes: r.ContentLength, cut: func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }}
		if mine.bytes < 0 { // not announced
			mine.bytes = MaxBody
		}
		if !s.turns.enter(r.Context(), mine, s.c.Patience) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, textBusy, http.StatusServiceUnavailable)
			return
		}
		defer s.turns.leave(mine)
		// After the turn has come, so that those who wait hold no memory; and as a
		// whole, so that a reader with a bound of its own answers nothing else.
		body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
		s.turns.read(mine)
		if code, text := refusal(body, err); code != 0 {
			http.Error(w, text, code)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.answer(w, r, h)
	})
}

// refusal says why a body is not read any further; code 0 means that it is.
func refusal(body []byte, err error) (code int, text string) {
	switch {
	case err != nil:
		return http.StatusBadRequest, textCut
	case len(body) > MaxBody:
		return http.StatusRequestEntityTooLarge, textLarge
	case !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")):
		// The decoder would try YAML, which takes a thousand times the memory.
		return http.StatusUnsupportedMediaType, textForm
	case weigh(body) > maxWeight:
		return http.StatusRequestEntityTooLarge, textHeavy
	}
	return 0, ""
}

// addressOf returns the other side without its port.
func addressOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
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
