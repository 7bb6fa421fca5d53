package bundle_test

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	oci "github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// pulling is the Fetcher of an oci:// reference, as the daemons have it.
type pulling struct {
	client    *oci.Client
	reference oci.Reference
}

func (p pulling) Resolve(ctx context.Context) (string, error) {
	return p.client.Resolve(ctx, p.reference)
}

func (p pulling) Fetch(ctx context.Context, version string) (signature.Artifact, error) {
	return p.client.Pull(ctx, p.reference, version)
}

// way is how signatures get into a registry and out of it again.
type way struct {
	name      string
	format    signature.Format
	referrers bool // the registry has the API for them
}

func ways() []way {
	return []way{
		{"bundles as referrers", signature.FormatBundle, true},
		{"bundles under a tag", signature.FormatBundle, false},
		{"classic", signature.FormatClassic, true},
	}
}

// fault is what stands between a node and its registry. It reports whether it has
// answered.
type fault func(w http.ResponseWriter, r *http.Request) bool

// shop is a rig whose bundles come out of a registry of go-containerregistry. The
// node comes in by the front, where faults are; the author by the back.
type shop struct {
	*rig

	way         way
	store       http.Handler
	front, back *httptest.Server
	author      pulling
	fault       fault
	asked       []string
	lock        sync.Mutex // of fault and asked
}

// patience is how long the node's client waits.
const patience = 400 * time.Millisecond

func newShop(t *testing.T, w way) *shop {
	t.Helper()
	s := &shop{rig: newRig(t), way: w}
	s.store = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(w.referrers))
	s.back = s.serve(s.store)
	s.front = s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.lock.Lock()
		s.asked = append(s.asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v2/policy/"))
		f := s.fault
		s.lock.Unlock()
		if f == nil || !f(w, r) {
			s.store.ServeHTTP(w, r)
		}
	}))
	s.author = s.at(s.back, "policy:prod", 20*time.Second)
	s.fetcher = s.at(s.front, "policy:prod", 20*time.Second)
	return s
}

func (s *shop) serve(h http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	s.t.Cleanup(server.Close)
	return server
}

// at is a client of a server with its certificate, and a reference there.
func (s *shop) at(server *httptest.Server, rest string, timeout time.Duration) pulling {
	s.t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	client, err := oci.New(oci.Config{CA: ca, Timeout: timeout})
	s.must(err)
	s.t.Cleanup(client.Close)
	reference, err := oci.Parse("oci://" + server.Listener.Addr().String() + "/" + rest)
	s.must(err)
	return pulling{client, reference}
}

// hurry has the node wait a moment only, since what follows never answers.
func (s *shop) hurry() { s.fetcher = s.at(s.front, "policy:prod", patience) }

// set puts a fault between node and registry; nil takes it away.
func (s *shop) setFault(f fault) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.fault = f
}

// requests returns what the node has asked since the last call.
func (s *shop) requests() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// push moves the tag to a tarball.
func (s *shop) push(tarball []byte) (digest string) {
	s.t.Helper()
	digest, err := s.author.client.Push(s.t.Context(), s.author.reference, tarball, nil)
	s.must(err)
	return digest
}

// sign attaches a signature to what has a digest.
func (s *shop) sign(digest string, by signaturetest.Signer) signature.Signature {
	s.t.Helper()
	a, err := s.author.Fetch(s.t.Context(), digest)
	s.must(err)
	made := signaturetest.Sign(s.t, by, a, s.way.format)
	s.must(s.author.client.Attach(s.t.Context(), s.author.reference, digest, made))
	return made
}

// publish moves the tag to a bundle of its signer. As with the commands that sign and
// push, it is there before its signature is.
func (s *shop) publish(serial int64, allow bool) (digest string) {
	s.t.Helper()
	digest = s.push(s.tarball(serial, 30*day, allow))
	s.sign(digest, s.signer)
	return digest
}

// raw has the registry do something that no client of ours would.
func (s *shop) raw(method, path, contentType, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, "/v2/policy/"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.store.ServeHTTP(w, r)
	if w.Code >= http.StatusMultipleChoices {
		s.t.Fatalf("%s %s = %d %s", method, path, w.Code, w.Body)
	}
	return w
}

// transplant gives the bundle to the signature of the one from, in whichever way the
// registry has it.
func (s *shop) transplant(from, to string, made signature.Signature) {
	s.t.Helper()
	if s.way.format == signature.FormatBundle {
		s.must(s.author.client.Attach(s.t.Context(), s.author.reference, to, made))
		return
	}
	tag := func(digest string) string { return "manifests/" + strings.Replace(digest, ":", "-", 1) + ".sig" }
	have := s.raw(http.MethodGet, tag(from), "", "")
	s.raw(http.MethodPut, tag(to), have.Header().Get("Content-Type"), have.Body.String())
}

// refused makes an attempt that has to fail for a reason, while the bundle with the
// serial goes on deciding.
func (s *shop) refused(want bundle.Reason, serial int64, when string) {
	s.t.Helper()
	if err := s.reload(); bundle.ReasonOf(err) != want {
		s.t.Errorf("%s: Reload() = %v (%s), want %s", when, err, bundle.ReasonOf(err), want)
	} else if !strings.Contains(err.Error(), "hint:") {
		s.t.Errorf("%s: Reload() = %v, want a hint", when, err)
	}
	s.want(serial, when)
	if last := s.last(); last.Reason != want || last.Active != s.source.Active().Digest() {
		s.t.Errorf("%s: report of %s with %s in force, want %s and %s", when, last.Reason, last.Active, want, s.source.Active().Digest())
	}
}

// eachWay runs a test for each way.
func eachWay(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) { test(t, w) })
	}
}

// heads tells how many requests were looks at the tag.
func heads(asked []string) int {
	return len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return r != "HEAD manifests/prod" }))
}
