package admin

import (
	"bufio"
	"errors"
	"net/http"
	"sync"
	"time"
)

// statusTrailer is sent after the body of a stream. Without it, an archive that
// was cut between two files, or lines between two events, would look whole.
const (
	statusTrailer = "Portcullis-Status"
	statusDone    = "done"
	statusGone    = "gone"
	statusFailed  = "failed"
)

const (
	// pieceBytes is what must be read within stallTimeout.
	pieceBytes = 256 << 10
	lineBuffer = 64 << 10
	// flushAfter is how long an event waits for company.
	flushAfter = 50 * time.Millisecond
)

var errTooLong = errors.New("the reader is too slow")

// stream writes a long answer to a reader that may be slow, for a while.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
	until time.Time // zero: for ever
	wrote bool
}

// newStream announces the trailer; nothing is sent before the first byte.
func newStream(w http.ResponseWriter, contentType string, stall time.Duration) *stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Trailer", statusTrailer)
	return &stream{w: w, rc: http.NewResponseController(w), stall: stall}
}

// Write sends p, each piece of it within its time.
func (s *stream) Write(p []byte) (int, error) {
	n := 0
	for {
		now := time.Now()
		if !s.until.IsZero() && now.After(s.until) {
			return n, errTooLong
		}
		if err := s.rc.SetWriteDeadline(now.Add(s.stall)); err != nil {
			return n, err
		}
		s.wrote = true
		m, err := s.w.Write(p[n : n+min(len(p)-n, pieceBytes)])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// flush sends what is buffered on our side.
func (s *stream) flush() error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
		return err
	}
	s.wrote = true
	return s.rc.Flush()
}

// end says in the trailer how it went.
func (s *stream) end(err error) {
	status := statusDone
	switch {
	case errors.Is(err, ErrGone):
		status = statusGone
	case err != nil:
		status = statusFailed
	}
	s.w.Header().Set(statusTrailer, status)
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.stall))
}

// lines gathers lines for a short time, so that a backlog is not one system
// call an event, and a new event is still seen at once.
type lines struct {
	mu    sync.Mutex
	s     *stream
	b     *bufio.Writer
	timer *time.Timer
	armed bool
	ended bool
	err   error
}

func newLines(s *stream) *lines {
	l := &lines{s: s, b: bufio.NewWriterSize(s, lineBuffer)}
	l.timer = time.AfterFunc(time.Hour, l.tick)
	l.timer.Stop()
	return l
}

// tick sends what has waited long enough.
func (l *lines) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	l.flush()
}

func (l *lines) flush() {
	if l.ended || l.err != nil || l.b.Buffered() == 0 {
		return
	}
	if l.err = l.b.Flush(); l.err == nil {
		l.err = l.s.flush()
	}
}

// write takes the parts of one line.
func (l *lines) write(parts ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parts {
		if l.err == nil {
			_, l.err = l.b.Write(p)
		}
	}
	if l.err == nil && !l.armed {
		l.armed = true
		l.timer.Reset(flushAfter)
	}
	return l.err
}

// close sends the rest. Nothing is written afterwards.
func (l *lines) close() error {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.ended = true
	return l.err
}
