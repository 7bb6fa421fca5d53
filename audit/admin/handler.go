package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
)

// Paths of the endpoints.
const (
	pathEpochs     = "/v1/audit/epochs"
	pathSnapshot   = "/v1/audit/snapshot"
	pathFollow     = "/v1/audit/follow"
	pathCheckpoint = "/v1/audit/checkpoint"
	pathInputs     = "/v1/audit/inputs"
	pathBundles    = "/v1/audit/bundles"
	pathRotateKey  = "/v1/audit/rotate-key"
	pathShadow     = "/v1/shadow"
)

const (
	typeJSON  = "application/json"
	typeLines = "application/x-ndjson"
	typeTar   = "application/x-tar"
	typeGzip  = "application/gzip"
	typeText  = "text/plain; charset=utf-8"
)

// errEnd ends a walk through the log at its end.
var errEnd = errors.New("end")

// refusal is an answer that is an error.
type refusal struct {
	status int
	Text   string `json:"error"`
	Hint   string `json:"hint,omitempty"`
	Code   string `json:"code,omitempty"` // of an error that callers tell from others
}

// The codes.
const (
	codeGone    = "gone"
	codeNotKept = "not-kept"
	codeNothing = "no-candidate"
)

// Error says what was refused.
func (r *refusal) Error() string { return r.Text }

func refuse(status int, text, hint string) error {
	return &refusal{status: status, Text: text, Hint: hint}
}

// handler answers requests.
type handler struct {
	c        Config
	snapshot chan struct{} // one at a time: each reads the whole log
}

// serve answers one request, if it has the form of those that there are.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// net/http would wait for the body before it answers.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		w.Header().Set("Connection", "close")
		h.fail(w, r, refuse(http.StatusBadRequest, "the request has a body", "send none"))
		return
	}
	if err := h.route(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *handler) route(w http.ResponseWriter, r *http.Request) error {
	answer, method := h.find(r.URL.Path)
	switch {
	case answer == nil:
		return refuse(http.StatusNotFound, "there is no such endpoint", "use the portcullis of the plugin's version")
	case r.Method != method:
		w.Header().Set("Allow", method)
		return refuse(http.StatusMethodNotAllowed, "the endpoint takes "+method, "")
	case r.URL.RawQuery != "" && r.URL.Path != pathFollow:
		return refuse(http.StatusBadRequest, "the endpoint takes no parameters", "")
	}
	return answer(w, r)
}

func (h *handler) find(path string) (answer func(http.ResponseWriter, *http.Request) error, method string) {
	switch path {
	case pathEpochs:
		return h.epochs, http.MethodGet
	case pathSnapshot:
		return h.takeSnapshot, http.MethodGet
	case pathFollow:
		return h.follow, http.MethodGet
	case pathCheckpoint:
		return h.checkpoint, http.MethodGet
	case pathInputs:
		return h.inputs, http.MethodGet
	case pathRotateKey:
		return h.rotateKey, http.MethodPost
	case pathShadow:
		return h.shadow, http.MethodGet
	}
	switch {
	case strings.HasPrefix(path, pathInputs+"/"):
		return h.input, http.MethodGet
	case strings.HasPrefix(path, pathBundles+"/"):
		return h.bundle, http.MethodGet
	}
	return nil, ""
}

// fail answers with the error, in a form that the client takes apart.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	reply, ok := errors.AsType[*refusal](err)
	if !ok {
		reply = h.described(r, err)
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return
	}
	w.Header().Del("Trailer")
	h.reply(w, reply.status, typeJSON, body)
}

func (h *handler) described(r *http.Request, err error) *refusal {
	text, hint, _ := strings.Cut(err.Error(), "; hint: ")
	reply := &refusal{status: http.StatusInternalServerError, Text: text, Hint: hint}
	switch {
	case errors.Is(err, ErrGone):
		reply.status, reply.Code = http.StatusGone, codeGone
	case errors.Is(err, ErrNotKept):
		reply.status, reply.Code = http.StatusNotFound, codeNotKept
	case errors.Is(err, ErrNoCandidate):
		reply.status, reply.Code = http.StatusNotFound, codeNothing
	default:
		h.c.Logger.Error("request to the admin socket failed", slog.String(keyRequest, clip(r.URL.Path)), slog.Any(keyError, err))
	}
	return reply
}

func (h *handler) reply(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.c.Stall))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // G705: no browser reads it; and a peer that has gone away gets no answer
}

func (h *handler) epochs(w http.ResponseWriter, _ *http.Request) error {
	list, err := h.c.Log.Epochs()
	if err != nil {
		return err
	}
	answer := make([]Epoch, 0, len(list))
	for _, e := range list {
		answer = append(answer, epochOf(e))
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeJSON, body)
	return nil
}

func (h *handler) checkpoint(w http.ResponseWriter, _ *http.Request) error {
	text, err := h.c.Log.Checkpoint()
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeText, text)
	return nil
}

func (h *handler) shadow(w http.ResponseWriter, _ *http.Request) error {
	if h.c.Shadow == nil {
		return ErrNoCandidate
	}
	report, err := h.c.Shadow()
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeJSON, report)
	return nil
}

func (h *handler) rotateKey(w http.ResponseWriter, r *http.Request) error {
	if err := h.c.Log.RotateKey(r.Context()); err != nil {
		return err
	}
	key, err := h.c.Log.VerifierKey()
	if err != nil {
		return err
	}
	body, err := json.Marshal(Key{strings.TrimSpace(key)})
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeJSON, body)
	return nil
}

// finish ends a stream. What fails before the first byte still gets a status.
func (h *handler) finish(r *http.Request, s *stream, err error) error {
	if err != nil && !s.wrote {
		return err
	}
	if err != nil && !errors.Is(err, ErrGone) && r.Context().Err() == nil {
		h.c.Logger.Warn("answer on the admin socket broke off", slog.String(keyRequest, clip(r.URL.Path)), slog.Any(keyError, err))
	}
	s.end(err)
	return nil
}

func (h *handler) takeSnapshot(w http.ResponseWriter, r *http.Request) error {
	select {
	case h.snapshot <- struct{}{}:
		defer func() { <-h.snapshot }()
	default:
		return refuse(http.StatusTooManyRequests, "another snapshot is being taken", "wait for its end")
	}
	s := newStream(w, typeTar, h.c.Stall)
	s.until = time.Now().Add(snapshotTimeout)
	_, err := h.c.Log.Snapshot(s)
	return h.finish(r, s, err)
}

func (h *handler) follow(w http.ResponseWriter, r *http.Request) error {
	want, err := parseSpan(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, err.Error(), "")
	}
	epochs, err := h.c.Log.Epochs()
	if err != nil {
		return err
	}
	end := endOf(epochs)
	if want.from.Epoch == 0 && len(epochs) > 0 {
		want.from = Position{Epoch: epochs[0].Number}
	}
	s := newStream(w, typeLines, h.c.Stall)
	out := newLines(s)
	if want.count > 0 && !before(want.from, end) {
		return h.finish(r, s, nil)
	}
	if want.count == 0 {
		if err := s.flush(); err != nil { // so that the peer knows that it is served
			return h.finish(r, s, err)
		}
	}
	sent := int64(0)
	err = h.c.Log.Follow(r.Context(), want.from, func(l auditlog.Leaf) error {
		if err := writeEvent(out, l); err != nil {
			return err
		}
		sent++
		if want.count > 0 && (sent == want.count || !before(l.Position, Position{Epoch: end.Epoch, Index: end.Index - 1})) {
			return errEnd
		}
		return nil
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return h.finish(r, s, errors.Join(err, out.close()))
}

// endOf is the position after the last event.
func endOf(epochs []auditlog.Epoch) Position {
	for i := len(epochs) - 1; i >= 0; i-- {
		if epochs[i].Size > 0 {
			return Position{Epoch: epochs[i].Number, Index: epochs[i].Size}
		}
	}
	return Position{}
}

// writeEvent writes a line with the leaf's own bytes: they are what was signed.
func writeEvent(out *lines, l auditlog.Leaf) error {
	if bytes.ContainsAny(l.Data, "\r\n") {
		return fmt.Errorf("event %d of epoch %d is not one line", l.Index, l.Epoch)
	}
	head := `{"epoch":` + strconv.FormatInt(l.Epoch, 10) + `,"index":` + strconv.FormatInt(l.Index, 10) + `,"event":`
	return out.write([]byte(head), l.Data, []byte("}\n"))
}

func (h *handler) inputs(w http.ResponseWriter, r *http.Request) error {
	if h.c.Inputs == nil {
		return ErrNotKept
	}
	s := newStream(w, typeLines, h.c.Stall)
	out := newLines(s)
	err := h.c.Inputs.Recorded(r.Context(), func(d policies.Recorded) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		line, err := recordedLine(d)
		if err != nil {
			return err
		}
		return out.write(line)
	})
	return h.finish(r, s, errors.Join(err, out.close()))
}

// recordedLine keeps the input's own bytes, which its digest is of.
func recordedLine(d policies.Recorded) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(d)
	return b.Bytes(), err
}

func (h *handler) input(w http.ResponseWriter, r *http.Request) error {
	sha := strings.TrimPrefix(r.URL.Path, pathInputs+"/")
	switch {
	case !shaPattern.MatchString(sha):
		return refuse(http.StatusBadRequest, "the path does not end in a SHA-256", "give 64 hexadecimal digits in lower case")
	case h.c.Inputs == nil:
		return ErrNotKept
	}
	text, err := h.c.Inputs.Input(sha)
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeJSON, text)
	return nil
}

func (h *handler) bundle(w http.ResponseWriter, r *http.Request) error {
	digest := strings.TrimPrefix(r.URL.Path, pathBundles+"/")
	switch {
	case !digestPattern.MatchString(digest):
		return refuse(http.StatusBadRequest, "the path does not end in a digest", "give sha256: and 64 hexadecimal digits in lower case")
	case h.c.Inputs == nil:
		return ErrNotKept
	}
	archive, err := h.c.Inputs.Bundle(digest)
	if err != nil {
		return err
	}
	h.reply(w, http.StatusOK, typeGzip, archive)
	return nil
}
