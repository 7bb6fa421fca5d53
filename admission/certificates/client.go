package certificates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

const (
	requestTimeout = 5 * time.Second
	dialTimeout    = 3 * time.Second
	// maxAnswer is more than the API server stores of one object.
	maxAnswer = 4 << 20
	mimeJSON  = "application/json"
)

// client makes the four requests, and knows what the API server's clock says.
type client struct {
	base  *url.URL
	http  *http.Client
	clock clock
}

func newClient(c *rest.Config) (*client, error) {
	own := rest.CopyConfig(c)
	own.QPS, own.RateLimiter, own.Timeout = -1, nil, 0
	own.WarningHandler, own.WarningHandlerWithContext = rest.NoWarnings{}, nil
	if own.UserAgent == "" {
		own.UserAgent = "portcullis-webhook"
	}
	if own.Dial == nil && own.Transport == nil {
		own.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	base, _, err := rest.DefaultServerUrlFor(own)
	if err != nil || base.Scheme != "https" {
		return nil, errors.New("the address of the API server is not one of https") // without it: it may hold a password
	}
	made := &client{base: &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path}}
	if made.http, err = rest.HTTPClientFor(own); err != nil {
		return nil, err
	}
	// Whoever an answer points to would get the credentials.
	made.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return made, nil
}

// now is the time of the API servers, as exact as seconds.
func (c *client) now() time.Time {
	now, _ := c.clock.now(time.Now())
	return now
}

func (c *client) secret(ctx context.Context, at types.NamespacedName) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	return s, c.do(ctx, request{method: http.MethodGet, path: secretPath(at)}, s)
}

// update writes the Secret, unless it changed since it was read.
func (c *client) update(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	made := &corev1.Secret{}
	at := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	return made, c.do(ctx, request{method: http.MethodPut, path: secretPath(at), mime: mimeJSON, body: s}, made)
}

func (c *client) configuration(ctx context.Context, name string) (*admissionv1.ValidatingWebhookConfiguration, error) {
	o := &admissionv1.ValidatingWebhookConfiguration{}
	return o, c.do(ctx, request{method: http.MethodGet, path: configurationPath(name)}, o)
}

// patch merges into the configuration by the names of its webhooks.
func (c *client) patch(ctx context.Context, name string, body any) error {
	r := request{method: http.MethodPatch, path: configurationPath(name), mime: string(types.StrategicMergePatchType), body: body}
	return c.do(ctx, r, &admissionv1.ValidatingWebhookConfiguration{})
}

func secretPath(at types.NamespacedName) []string {
	return []string{"api", "v1", "namespaces", at.Namespace, "secrets", at.Name}
}

func configurationPath(name string) []string {
	return []string{"apis", "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", name}
}

type request struct {
	method string
	path   []string
	mime   string
	body   any // nil: none
}

// do makes one request and reads the answer into into.
func (c *client) do(ctx context.Context, r request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	made, err := http.NewRequestWithContext(ctx, r.method, c.base.JoinPath(r.path...).String(), body)
	if err != nil {
		return err
	}
	made.Header.Set("Accept", mimeJSON)
	if r.mime != "" {
		made.Header.Set("Content-Type", r.mime)
	}
	asked := time.Now()
	answer, err := c.http.Do(made)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	c.set(answer.Header.Get("Date"), asked)
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read answer of the API server: %w", err)
	case len(text) > maxAnswer:
		return errors.New("the answer of the API server is too large")
	case answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusMultipleChoices:
		return refusal(answer.StatusCode, r, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.New("the answer of the API server is not the object that was asked for") // without it: it may quote a key
	}
	return nil
}

// set takes down what the API server's clock says. Half of a second is the middle
// of what a date without fractions may mean.
func (c *client) set(date string, asked time.Time) {
	then, err := http.ParseTime(date)
	if err != nil {
		return
	}
	c.clock.told(then.Add(time.Second/2), asked.Add(time.Since(asked)/2))
}

// refusal is the error of an answer that is none.
func refusal(code int, r request, text []byte) error {
	status := metav1.Status{}
	if err := json.Unmarshal(text, &status); err == nil && status.Kind == "Status" && status.Reason != "" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	name := r.path[len(r.path)-1]
	return apierrors.NewGenericServerResponse(code, r.method, schema.GroupResource{Resource: r.path[len(r.path)-2]}, name, "", 0, true)
}
