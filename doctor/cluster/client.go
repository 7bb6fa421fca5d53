package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

const (
	maxBody  = 64 << 20
	pageSize = 250
	maxPages = 400
)

// errAbsent means that there is no object of a name.
var errAbsent = errors.New("not found")

// client asks one API server.
type client struct {
	base *url.URL
	http *http.Client
}

func newClient(c *rest.Config) (*client, error) {
	base, h, err := cluster.NewClient(c)
	if err != nil {
		return nil, err
	}
	return &client{base, h}, nil
}

// question is what the API server is asked.
type question struct {
	path   string
	query  url.Values
	review any    // to be posted; nil: something is read
	accept string // what the answer may be; empty: JSON
	most   int64  // bytes of the answer; 0: those of a page of a list
}

// do makes one request and decodes the answer.
func (c *client) do(ctx context.Context, q question, out any) error {
	text, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errors.New("the API server's answer is not the object that was asked for")
	}
	return nil
}

// ask makes one request and returns the answer.
func (c *client) ask(ctx context.Context, q question) ([]byte, error) {
	u := *c.base
	u.Path = path.Join("/", u.Path, q.path)
	u.RawQuery = q.query.Encode()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if q.review != nil {
		text, err := json.Marshal(q.review)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		method, body = http.MethodPost, bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, errors.New("the address of the API server is not a URL; hint: kubectl config view shows it")
	}
	request.Header.Set("Accept", cmp.Or(q.accept, "application/json"))
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	defer answer.Body.Close()
	most := cmp.Or(q.most, maxBody)
	text, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	switch {
	case answer.StatusCode == http.StatusForbidden:
		return nil, doctor.ErrForbidden
	case answer.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("the API server does not accept the credentials; hint: log in again, as for kubectl")
	case answer.StatusCode == http.StatusNotFound:
		return nil, absent(text)
	case answer.StatusCode/100 != 2:
		return nil, fmt.Errorf("the API server answered %d (%s); hint: try kubectl get --raw %s", answer.StatusCode, http.StatusText(answer.StatusCode), q.path)
	case int64(len(text)) > most:
		return nil, errors.New("the answer of the API server is too large")
	}
	return text, nil
}

// absent tells an object that does not exist from a resource that is not served.
func absent(text []byte) error {
	var status struct {
		Reason  string `json:"reason"`
		Details *struct {
			Name string `json:"name"`
		} `json:"details"`
	}
	if json.Unmarshal(text, &status) == nil && status.Reason == "NotFound" && status.Details != nil && status.Details.Name != "" {
		return errAbsent
	}
	return doctor.ErrNotServed
}

// unanswered drops the address, which may hold a password and is known anyway.
func unanswered(ctx context.Context, err error) error {
	const hint = "; hint: check the address in the kubeconfig and the health of the API server"
	if ctx.Err() != nil {
		return errors.New("the API server did not answer in time" + hint)
	}
	if e, isURL := errors.AsType[*url.Error](err); isURL {
		err = e.Err
	}
	return fmt.Errorf("the API server did not answer: %w%s", err, hint)
}

// get reads one object; nil if there is none.
func get[T any](ctx context.Context, c *client, resource string) doctor.Asked[*T] {
	object := new(T)
	err := c.do(ctx, question{path: resource}, object)
	if errors.Is(err, errAbsent) {
		return doctor.Asked[*T]{}
	}
	if err != nil {
		return doctor.Asked[*T]{Err: err}
	}
	return doctor.Asked[*T]{Value: object}
}

// list reads all objects of a resource, page by page, each reduced by keep.
func list[T, K any](ctx context.Context, c *client, q question, keep func(*T) (K, bool)) doctor.Asked[[]K] {
	if q.query == nil {
		q.query = url.Values{}
	}
	q.query.Set("limit", strconv.Itoa(pageSize))
	var all []K
	for range maxPages {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := c.do(ctx, q, &page); err != nil {
			return doctor.Asked[[]K]{Err: err}
		}
		for i := range page.Items {
			if kept, ok := keep(&page.Items[i]); ok {
				all = append(all, kept)
			}
		}
		if page.Metadata.Continue == "" {
			return doctor.Asked[[]K]{Value: all}
		}
		q.query.Set("continue", page.Metadata.Continue)
	}
	return doctor.Asked[[]K]{Err: fmt.Errorf("there are more than %d", maxPages*pageSize)}
}

// whole keeps objects as they are.
func whole[T any](object *T) (T, bool) { return *object, true }
