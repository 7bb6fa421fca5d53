package floor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

const (
	keySerial = "serial"
	keyDigest = "digest"

	maxObject = 64 << 10
	tries     = 5
	timeout   = 5 * time.Second
)

// ErrMissing is returned where there is no such ConfigMap, or one without data, as
// the chart makes it.
var ErrMissing = errors.New("the ConfigMap of the policy floor is not there or has no data yet; hint: the webhook writes it with the first bundle that it verifies")

// Mark is a serial and the digest of the bundle that has it.
type Mark struct {
	Serial int64
	Digest string // sha256:<hex>, or ""
}

// Config says where the ConfigMap is. Every field is required.
type Config struct {
	REST            *rest.Config
	Namespace, Name string
}

// Floor is the ConfigMap.
type Floor struct {
	c      Config
	base   *url.URL
	client *http.Client
}

// Parse reads NAMESPACE/NAME.
func Parse(text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "", "", fmt.Errorf("%q is not NAMESPACE/NAME of a ConfigMap", text)
	}
	return namespace, name, nil
}

// New returns a Floor. It asks nobody yet.
func New(c Config) (*Floor, error) {
	if c.REST == nil || c.Namespace == "" || c.Name == "" {
		return nil, errors.New("configure policy floor: REST, Namespace or Name is missing")
	}
	own := rest.CopyConfig(c.REST)
	own.Timeout = timeout
	base, _, err := rest.DefaultServerURL(own.Host, "/", schema.GroupVersion{}, true)
	if err != nil {
		return nil, errors.New("configure policy floor: the address of the API server is not a URL")
	}
	client, err := rest.HTTPClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("configure policy floor: %w", err)
	}
	// Whoever an answer points to would get the credentials.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Floor{c, base, client}, nil
}

// Read returns the floor. One that is missing, damaged or unreadable is an error.
func (f *Floor) Read(ctx context.Context) (Mark, error) {
	object, err := f.get(ctx)
	if err != nil {
		return Mark{}, err
	}
	if len(object.Data) == 0 {
		return Mark{}, ErrMissing
	}
	return f.parse(object)
}

// Raise makes m the floor if that is higher. A damaged floor stays as it is, since
// nobody can say that m is higher.
func (f *Floor) Raise(ctx context.Context, m Mark) error {
	if m.Serial < 1 || !digestForm().MatchString(m.Digest) {
		return fmt.Errorf("raise policy floor: serial %d with digest %q is none", m.Serial, m.Digest)
	}
	for range tries {
		again, err := f.raise(ctx, m)
		if err != nil || !again {
			return err
		}
	}
	return errors.New("raise policy floor: others write it all the time; hint: only the webhook's replicas may")
}

func (f *Floor) raise(ctx context.Context, m Mark) (again bool, err error) {
	data := map[string]string{keySerial: strconv.FormatInt(m.Serial, 10), keyDigest: m.Digest}
	object, err := f.get(ctx)
	if errors.Is(err, ErrMissing) {
		return f.send(ctx, http.MethodPost, "", &corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: f.c.Namespace, Name: f.c.Name}, Data: data,
		})
	}
	if err != nil {
		return false, err
	}
	have := Mark{}
	if len(object.Data) > 0 { // the chart makes it empty
		if have, err = f.parse(object); err != nil {
			return false, err
		}
	}
	switch {
	case have.Serial > m.Serial || have == m:
		return false, nil
	case have.Serial == m.Serial && have.Digest != "":
		return false, fmt.Errorf("raise policy floor: serial %d is that of %s there, and of %s here; hint: somebody signed both: find out who, then publish with a higher serial", m.Serial, have.Digest, m.Digest)
	}
	object.APIVersion, object.Kind, object.Data = "v1", "ConfigMap", data
	return f.send(ctx, http.MethodPut, f.c.Name, object) // with the resourceVersion that was read
}

func digestForm() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) }

// parse refuses whatever Raise does not write.
func (f *Floor) parse(object *corev1.ConfigMap) (Mark, error) {
	text, digest := object.Data[keySerial], object.Data[keyDigest]
	serial, err := strconv.ParseInt(text, 10, 64)
	if err != nil || serial < 1 || strconv.FormatInt(serial, 10) != text || digest != "" && !digestForm().MatchString(digest) {
		return Mark{}, fmt.Errorf("ConfigMap %s/%s holds no floor of policy serials; hint: find out who wrote it; it is repaired with data.serial, the serial of the bundle in force", f.c.Namespace, f.c.Name)
	}
	return Mark{serial, digest}, nil
}

func (f *Floor) request(ctx context.Context, method, name string, body []byte) (int, []byte, error) {
	at := f.base.JoinPath("api", "v1", "namespaces", f.c.Namespace, "configmaps", name)
	request, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the API server for the policy floor: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxObject+1))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return 0, nil, fmt.Errorf("read the policy floor: %w", err)
	}
	if len(text) > maxObject {
		return 0, nil, fmt.Errorf("read the policy floor: more than %d bytes", maxObject)
	}
	return response.StatusCode, text, nil
}

func (f *Floor) get(ctx context.Context) (*corev1.ConfigMap, error) {
	status, text, err := f.request(ctx, http.MethodGet, f.c.Name, nil)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, ErrMissing
	case status != http.StatusOK:
		return nil, fmt.Errorf("read the policy floor: the API server answers %d; hint: the account needs get on ConfigMap %s/%s", status, f.c.Namespace, f.c.Name)
	}
	var object corev1.ConfigMap
	if err := json.Unmarshal(text, &object); err != nil || object.Name != f.c.Name || object.Namespace != f.c.Namespace {
		return nil, errors.New("read the policy floor: the API server answers with something else")
	}
	return &object, nil
}

func (f *Floor) send(ctx context.Context, method, name string, object *corev1.ConfigMap) (again bool, err error) {
	body, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	status, _, err := f.request(ctx, method, name, body)
	switch {
	case err != nil:
		return false, err
	case status == http.StatusConflict:
		return true, nil
	case status != http.StatusOK && status != http.StatusCreated:
		return false, fmt.Errorf("raise policy floor: the API server answers %d; hint: the webhook's account needs create and update on ConfigMap %s/%s", status, f.c.Namespace, f.c.Name)
	}
	return false, nil
}
