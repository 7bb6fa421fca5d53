package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	dialTimeout  = 5 * time.Second
	replyTimeout = time.Minute // a key rotation ends an epoch, which takes fsyncs
	// maxAnswerBytes bounds answers that are no streams: epochs, and bundles.
	maxAnswerBytes = 64 << 20
	maxErrorBytes  = 4 << 10
	// maxLineBytes is more than an event of 32 KiB, or an input of 128 KiB with
	// its decision.
	maxLineBytes = 512 << 10
)

// Error is a request that the plugin refused.
type Error struct {
	Status int    // of HTTP
	Text   string // printable ASCII
	Hint   string // the same, may be empty
	code   string
}

// Error says what was refused, and the remedy.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + "; hint: " + e.Hint
}

// Unwrap returns ErrGone, ErrNotKept or ErrNoCandidate where it is that.
func (e *Error) Unwrap() error {
	switch e.code {
	case codeGone:
		return ErrGone
	case codeNotKept:
		return ErrNotKept
	case codeNothing:
		return ErrNoCandidate
	}
	return nil
}

// Client asks one plugin.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a client of the socket. It connects at each request; peer, which
// may be nil, returns why what listens there is not to be believed.
func Dial(path string, peer func(net.Conn) error) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
			if err != nil || peer == nil {
				return conn, err
			}
			if err := peer(conn); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes, ResponseHeaderTimeout: replyTimeout,
	}
	return &Client{path, &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Epochs returns the epochs that are kept, oldest first.
func (c *Client) Epochs(ctx context.Context) ([]Epoch, error) {
	var list []Epoch
	body, err := c.get(ctx, pathEpochs)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("read epochs: %w", err)
	}
	return list, nil
}

// Checkpoint has the log sign itself as it is now.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) { return c.get(ctx, pathCheckpoint) }

// Shadow returns what the candidate bundle would have decided, as JSON, or
// ErrNoCandidate.
func (c *Client) Shadow(ctx context.Context) ([]byte, error) { return c.get(ctx, pathShadow) }

// Input returns an input by the SHA-256 of its canonical text, or ErrNotKept.
func (c *Client) Input(ctx context.Context, sha256 string) ([]byte, error) {
	if !shaPattern.MatchString(sha256) {
		return nil, fmt.Errorf("%+q is not a SHA-256; hint: give 64 hexadecimal digits in lower case", clip(sha256))
	}
	return c.get(ctx, pathInputs+"/"+sha256)
}

// Bundle returns a bundle by its digest as tar.gz, or ErrNotKept.
func (c *Client) Bundle(ctx context.Context, digest string) ([]byte, error) {
	if !digestPattern.MatchString(digest) {
		return nil, fmt.Errorf("%+q is not a digest; hint: give sha256: and 64 hexadecimal digits in lower case", clip(digest))
	}
	return c.get(ctx, pathBundles+"/"+digest)
}

// RotateKey has the log's key replaced, and returns the new public key.
func (c *Client) RotateKey(ctx context.Context) (Key, error) {
	var k Key
	resp, err := c.do(ctx, http.MethodPost, pathRotateKey)
	if err != nil {
		return k, err
	}
	body, err := readAnswer(resp)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(body, &k); err != nil {
		return k, fmt.Errorf("read new key: %w", err)
	}
	return k, nil
}

// Read gives f the events from a position on that there are now, at most count.
func (c *Client) Read(ctx context.Context, from Position, count int64, f func(at Position, leaf []byte) error) error {
	if count <= 0 {
		return nil
	}
	return c.events(ctx, span{from, count}, f)
}

// Follow gives f the events from a position on, old and new, until ctx ends or
// f fails. The zero position is the oldest event that is kept.
func (c *Client) Follow(ctx context.Context, from Position, f func(at Position, leaf []byte) error) error {
	return c.events(ctx, span{from: from}, f)
}

func (c *Client) events(ctx context.Context, s span, f func(Position, []byte) error) error {
	return c.lines(ctx, pathFollow+"?"+s.query(), func(line []byte) error {
		var e struct {
			Epoch int64           `json:"epoch"`
			Index int64           `json:"index"`
			Event json.RawMessage `json:"event"`
		}
		if err := json.Unmarshal(line, &e); err != nil || len(e.Event) == 0 {
			return errors.New("the plugin sent a line that is no event; hint: use the portcullis of the plugin's version")
		}
		return f(Position{Epoch: e.Epoch, Index: e.Index}, e.Event)
	})
}

// Recorded gives f the decisions of the log, oldest first, each with its input
// where that is kept.
func (c *Client) Recorded(ctx context.Context, f func(policies.Recorded) error) error {
	return c.lines(ctx, pathInputs, func(line []byte) error {
		var r policies.Recorded
		if err := json.Unmarshal(line, &r); err != nil {
			return errors.New("the plugin sent a line that is no decision; hint: use the portcullis of the plugin's version")
		}
		return f(r)
	})
}

// Snapshot unpacks a snapshot of the whole log into a directory, see Unpack.
func (c *Client) Snapshot(ctx context.Context, dir string, limit int64) error {
	resp, err := c.do(ctx, http.MethodGet, pathSnapshot)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := Unpack(resp.Body, dir, limit); err != nil {
		return err
	}
	return whole(resp)
}

// lines gives f each line of a stream.
func (c *Client) lines(ctx context.Context, path string, f func(line []byte) error) error {
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, maxLineBytes)
	for s.Scan() {
		if err := f(s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return brokenOff(ctx, err)
	}
	return whole(resp)
}

// whole reports whether the stream that was read ended where it should.
func whole(resp *http.Response) error {
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBytes)); err != nil {
		return brokenOff(resp.Request.Context(), err)
	}
	switch resp.Trailer.Get(statusTrailer) {
	case statusDone:
		return nil
	case statusGone:
		return ErrGone
	}
	return ErrBrokenOff
}

func brokenOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, bufio.ErrTooLong) {
		return errors.New("the plugin sent a line that is too long; hint: use the portcullis of the plugin's version")
	}
	return ErrBrokenOff
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, brokenOff(resp.Request.Context(), err)
	}
	if len(body) > maxAnswerBytes {
		return nil, errors.New("the plugin's answer is too long; hint: use the portcullis of the plugin's version")
	}
	return body, nil
}

func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the plugin: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

func readError(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	var r refusal
	if err != nil || json.Unmarshal(body, &r) != nil || r.Text == "" {
		return &Error{Status: resp.StatusCode, Text: fmt.Sprintf("the plugin answers with HTTP status %d", resp.StatusCode), Hint: "check that --socket is that of portcullis-node"}
	}
	return &Error{resp.StatusCode, "the plugin refused: " + printable(r.Text), printable(r.Hint), r.Code}
}

// printable keeps escape sequences from the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err // without the request line
	}
	hint := "it hangs up on other users than the one that it runs as"
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "run as the user that the plugin runs as, which is root"
	case ok && op.Op == "dial":
		hint = "it serves the socket while it runs; for a stopped plugin give --file"
	}
	if ok {
		err = op.Err
	}
	return fmt.Errorf("ask the plugin at %+q: %w; hint: %s", c.path, err, hint)
}
