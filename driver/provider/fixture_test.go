package provider_test

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// canary is the secret of these tests. It looks like an identifier, so that it
// would pass wherever words from a provider pass.
const canary = "Canary-7f3a9c51e2d84b06"

// grants cover everything that the fixture asks for.
const grants = `
- id: G-1
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/payments/*"]
`

// object is one requested object.
type object struct {
	name, file string
	mode       *uint32
	uid        *int64
}

// objects asks for files of these names, each of the object payments/<name>.
func objects(names ...string) []object {
	var out []object
	for _, n := range names {
		out = append(out, object{name: "payments/" + n, file: n})
	}
	return out
}

// effective merges a class of the provider local.
func effective(t testing.TB, parameters map[string]string) kube.Effective {
	t.Helper()
	return effectiveOf(t, "local", parameters)
}

func effectiveOf(t testing.TB, name string, parameters map[string]string) kube.Effective {
	t.Helper()
	class := &spcv1.SecretProviderClass{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "payments"},
		Spec:       spcv1.SecretProviderClassSpec{Provider: spcv1.Provider(name), Parameters: parameters},
	}
	e, _, err := kube.Merge(class, map[string]string{"secretProviderClass": "db"})
	if err != nil {
		t.Fatalf("kube.Merge(%v): %v", parameters, err)
	}
	return e
}

// allowed has the objects decided on and returns a call for a new volume. The
// extra grants, in YAML, stand beside those of the fixture.
func allowed(t testing.TB, want []object, change ...func(*policies.Input)) provider.Call {
	t.Helper()
	return decided(t, grants, want, change...)
}

func decided(t testing.TB, grants string, want []object, change ...func(*policies.Input)) provider.Call {
	t.Helper()
	var list strings.Builder
	for _, o := range want {
		list.WriteString("- objectName: " + o.name + "\n  objectAlias: " + o.file + "\n")
	}
	e := effective(t, map[string]string{"objects": cmp.Or(list.String(), "[]")})
	in := policiestest.Input()
	in.SPC.ParametersSHA256 = e.Digest()
	in.Requests = nil
	for _, o := range want {
		in.Requests = append(in.Requests, policies.Request{Secret: "local://node/" + o.name, File: o.file, Mode: o.mode, UID: o.uid})
	}
	for _, f := range change {
		f(&in)
	}
	d := policiestest.Engine(t, grants).Decide(t.Context(), in)
	g, err := d.Grant()
	if err != nil {
		t.Fatalf("Decide(%v).Grant() = %v, deny %v", in.Requests, err, d.Deny)
	}
	return provider.Call{Grant: g, Effective: e, Volume: &providertest.Volume{}}
}

// logBuffer collects log lines of several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// deliverer returns a client of the given socket directories.
func deliverer(t testing.TB, change func(*provider.Config), dirs ...string) *provider.Deliverer {
	t.Helper()
	c := provider.Config{
		Dirs:           dirs,
		ProviderUIDs:   []int{os.Getuid()}, // who need not be root
		Timeout:        10 * time.Second,
		ConnectTimeout: 5 * time.Second,
		Logger:         slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	d, err := provider.New(c)
	if err != nil {
		t.Fatalf("New(%+v): %v", c, err)
	}
	t.Cleanup(d.Close)
	return d
}

// reasonOf returns the reason of an error, "" for nil.
func reasonOf(t testing.TB, err error) provider.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *provider.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %T %v is not a *provider.Error", err, err)
	}
	return e.Reason
}

// volumeOf returns the volume of a call of this fixture.
func volumeOf(t testing.TB, c provider.Call) *providertest.Volume {
	t.Helper()
	v, ok := c.Volume.(*providertest.Volume)
	if !ok {
		t.Fatalf("the call's volume is a %T", c.Volume)
	}
	return v
}

func ptr[T any](v T) *T { return &v }
