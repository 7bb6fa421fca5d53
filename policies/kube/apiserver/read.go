package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	maxObjectBytes = 3 << 20  // the API server itself takes no larger ones
	maxStatusBytes = 64 << 10 // of an answer that is not 200
)

// errTooLarge is an answer beyond its bound.
var errTooLarge = errors.New("the answer is too large")

// question is one request.
type question struct {
	object string // in errors
	path   string
	query  url.Values
	accept string
	limit  int64 // bytes of the answer
	named  *named
}

// object is one of the types that are read.
type object interface {
	runtime.Object
	metav1.Object
}

// read asks the API server for one object. It asks once: kubelet comes again,
// and a wait of ours would be added to its own.
func read[T object](ctx context.Context, r *Reader, n named) (T, error) {
	var none T
	if !n.possible() {
		return none, fmt.Errorf("%v: %w: nothing can have this name", n, kube.ErrNotFound)
	}
	body, err := r.get(ctx, question{
		object: string(n.kind), path: n.path(), accept: n.kind.accept(), limit: maxObjectBytes, named: &n,
	})
	if err != nil {
		return none, err
	}
	decoded, _, err := r.decoder.Decode(body, nil, nil)
	found, ok := decoded.(T)
	// The error of the decoder quotes what it read, so it goes nowhere.
	if err != nil || !ok || found.GetName() != n.name || found.GetNamespace() != n.namespace || found.GetUID() == "" || found.GetResourceVersion() == "" {
		unusable := &UnavailableError{Object: string(n.kind), Reason: InvalidAnswer, Code: http.StatusOK}
		r.troubles.note(string(n.kind), unusable)
		return none, unusable
	}
	return found, nil
}

// get returns the body of an answer that says 200.
func (r *Reader) get(ctx context.Context, q question) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, r.c.ReadTimeout)
	defer cancel()
	client := r.http.Load()
	body, err := r.ask(bounded, client, q)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("read %s: %w", q.object, ctx.Err()) // the caller's doing
	case bounded.Err() != nil:
		r.leave(client)
	}
	r.troubles.note(q.object, err)
	return body, err
}

// leave has the next requests made over other connections: one that swallows
// requests, as after a failover, looks like one that is slow. What is under way
// goes on.
func (r *Reader) leave(used *http.Client) {
	if _, fresh, err := newClient(r.c.REST); err == nil && r.http.CompareAndSwap(used, fresh) {
		utilnet.CloseIdleConnectionsFor(used.Transport)
	}
}

func (r *Reader) ask(ctx context.Context, client *http.Client, q question) ([]byte, error) {
	u := *r.base
	u.Path = path.Join("/", u.Path, q.path)
	u.RawQuery = q.query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, r.failed(ctx, q, err)
	}
	request.Header.Set("Accept", q.accept)
	answer, err := client.Do(request)
	if err != nil {
		return nil, r.failed(ctx, q, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, r.refused(q, answer)
	}
	body, err := readAll(answer.Body, q.limit)
	if errors.Is(err, errTooLarge) {
		return nil, &UnavailableError{Object: q.object, Reason: InvalidAnswer, Code: answer.StatusCode}
	}
	if err != nil {
		return nil, r.failed(ctx, q, err)
	}
	return body, nil
}

func readAll(from io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, errTooLarge
	}
	return body, err
}

// failed is the error of a request that has no answer. What the transport says
// is not the API server's text, so the log may have it.
func (r *Reader) failed(ctx context.Context, q question, err error) error {
	e := &UnavailableError{Object: q.object, Reason: reasonOfTransport(err)}
	if !errors.Is(ctx.Err(), context.Canceled) { // else nobody waits for it
		r.log.warn(ctx, e, err)
	}
	return e
}

// refused is the error of an answer that is not 200.
func (r *Reader) refused(q question, answer *http.Response) error {
	if answer.StatusCode == http.StatusNotFound && q.named != nil && r.notFound(answer.Body, q.named) {
		return fmt.Errorf("%v: %w", q.named, kube.ErrNotFound)
	}
	return &UnavailableError{Object: q.object, Reason: reasonOfCode(answer.StatusCode), Code: answer.StatusCode}
}

// notFound reports whether a 404 says that this one object does not exist. When
// the resource is not served, or something else than the API server answers,
// there is no such statement.
func (r *Reader) notFound(body io.Reader, n *named) bool {
	data, err := readAll(body, maxStatusBytes)
	if err != nil {
		return false
	}
	decoded, _, err := r.decoder.Decode(data, nil, nil)
	status, ok := decoded.(*metav1.Status)
	if err != nil || !ok || status.Details == nil {
		return false
	}
	s := n.kind.served()
	return status.Status == metav1.StatusFailure && status.Reason == metav1.StatusReasonNotFound && status.Code == http.StatusNotFound &&
		status.Details.Name == n.name && status.Details.Kind == s.resource && status.Details.Group == s.group
}
