package bundle_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	oci "github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// of limits a fault to some requests.
func of(fits func(r *http.Request) bool, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request) bool { return fits(r) && f(w, r) }
}

func blobs(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

func manifestsByDigest(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/manifests/sha256:")
}

// referrers are where signatures are looked for.
func referrers(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/referrers/") || strings.HasSuffix(r.URL.Path, ".sig")
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) bool {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		err = connection.Close()
	}
	return err == nil
}

// silent takes the request and says nothing for as long as somebody waits.
func silent(_ http.ResponseWriter, r *http.Request) bool {
	<-r.Context().Done()
	return true
}

// trickle sends a byte now and then, so that no deadline of a single read helps.
func trickle(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "application/octet-stream")
	c := http.NewResponseController(w)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, " "); err != nil || c.Flush() != nil {
			break
		}
		time.Sleep(patience / 20)
	}
	return true
}

// otherBytes answers with something else than what was asked for by digest.
func otherBytes(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", r.Header.Get("Accept"))
	_, err := io.WriteString(w, `{"schemaVersion":2}`)
	return err == nil
}

// faults are what goes wrong between a node and its registry, and what the client
// calls it.
func faults() map[string]struct {
	fault fault
	want  []oci.Reason
} {
	return map[string]struct {
		fault fault
		want  []oci.Reason
	}{
		"hangs up":                   {hangUp, []oci.Reason{oci.ReasonUnavailable, oci.ReasonMalformed}}, // at a loopback address http is tried too
		"reports a failure":          {broken503, []oci.Reason{oci.ReasonUnavailable}},
		"says nothing":               {silent, []oci.Reason{oci.ReasonTimeout}},
		"says nothing of the bundle": {of(manifestsByDigest, silent), []oci.Reason{oci.ReasonTimeout}},
		"trickles the manifest":      {of(manifestsByDigest, trickle), []oci.Reason{oci.ReasonTimeout, oci.ReasonTooLarge}},
		"trickles the content":       {of(blobs, trickle), []oci.Reason{oci.ReasonTimeout, oci.ReasonTooLarge}},
		"another manifest":           {of(manifestsByDigest, otherBytes), []oci.Reason{oci.ReasonWrongDigest}},
		"other content":              {of(blobs, otherBytes), []oci.Reason{oci.ReasonWrongDigest, oci.ReasonMalformed}},
		"signatures fail":            {of(referrers, broken503), []oci.Reason{oci.ReasonUnavailable}},
		"signatures hang":            {of(referrers, silent), []oci.Reason{oci.ReasonTimeout}},
	}
}

// TestP10RegistryFaults: a registry that is down, slow or lies, wholly or in part,
// takes nothing away and adds nothing. A better bundle waits until it is well.
func TestP10RegistryFaults(t *testing.T) {
	for name, tt := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, ways()[0])
			s.publish(5, true)
			s.must(s.start())
			s.publish(6, false)
			s.hurry()
			s.setFault(tt.fault)
			begin := time.Now()
			err := s.start()
			if bundle.ReasonOf(err) != bundle.ReasonUnreadable {
				t.Errorf("Start() = %v, want unreadable", err)
			}
			// Two operations, each bounded; the rest is for a machine that is busy.
			if d := time.Since(begin); d > 20*patience {
				t.Errorf("Start() took %s with a client that waits %s", d, patience)
			}
			if e, ok := errors.AsType[*oci.Error](err); !ok || !slices.Contains(tt.want, e.Reason) {
				t.Errorf("Start() = %v, want one of %v by the client", err, tt.want)
			}
			s.want(5, "from the store")
			if err := s.reload(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
				t.Errorf("Reload() = %v, want unreadable", err)
			}
			s.want(5, "at the next look")
			// Loaded at first, then the failure once, and what the store had.
			if len(s.reports) != 3 || s.reports[1].Reason != bundle.ReasonUnreadable || s.last().Origin != bundle.OriginStore {
				t.Errorf("%d reports, the last %+v, want the failure once", len(s.reports), s.last())
			}
			if st := s.source.Status(); st.Failures[bundle.ReasonUnreadable] != 2 || st.Floor.Serial != 5 {
				t.Errorf("Status() = %v, floor %d, want two failures and floor 5", st.Failures, st.Floor.Serial)
			}
			s.setFault(nil)
			// The client is still in a hurry, and the machine may be busy.
			for range 20 {
				if err = s.reload(); err == nil {
					break
				}
			}
			s.must(err)
			s.want(6, "when the registry is well")
		})
	}
}

// TestP10RegistryWithoutSignatures: whoever stands in between and takes the
// signatures away gets the bundle refused, not loaded without them.
func TestP10RegistryWithoutSignatures(t *testing.T) {
	none := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			http.NotFound(w, r)
			return true
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, err := io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		return err == nil
	}
	for _, w := range []way{ways()[0], ways()[2]} {
		t.Run(w.name, func(t *testing.T) {
			s := newShop(t, w)
			s.publish(5, true)
			s.must(s.start())
			s.publish(6, false)
			s.setFault(of(referrers, none))
			s.refused(bundle.ReasonUnsigned, 5, "without its signatures")
			s.setFault(nil)
			s.must(s.reload())
			s.want(6, "with its signatures")
		})
	}
}

// TestP10RegistryOfAStranger: a server at the address of the registry whose
// certificate nobody trusts is not asked, as good as its bundles may be.
func TestP10RegistryOfAStranger(t *testing.T) {
	s := newShop(t, ways()[0])
	s.publish(5, true)
	s.must(s.start())
	s.publish(6, false)
	s.requests()
	s.fetcher = pulling{strangers(t), s.at(s.front, "policy:prod", patience).reference}
	err := s.start()
	if e, ok := errors.AsType[*oci.Error](err); !ok || e.Reason != oci.ReasonTLS {
		t.Errorf("Start() = %v, want the certificate refused", err)
	}
	if asked := s.requests(); len(asked) != 0 {
		t.Errorf("the stranger was asked %v, want nothing", asked)
	}
	s.want(5, "beside a stranger")
}

// strangers is a client that trusts the system's certificates only.
func strangers(t *testing.T) *oci.Client {
	t.Helper()
	c, err := oci.New(oci.Config{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestP10DecidesWhileTheRegistryHangs: an attempt that waits holds up nobody who
// decides, and the end of the process ends it.
func TestP10DecidesWhileTheRegistryHangs(t *testing.T) {
	s := newShop(t, ways()[0])
	s.publish(5, true)
	s.must(s.start())
	arrived := make(chan struct{})
	var once sync.Once
	s.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(arrived) })
		return silent(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.source.Reload(ctx) }()
	<-arrived
	for range 100 {
		if d := s.source.Active().Decide(t.Context(), policiestest.Input()); d.BundleSerial != 5 {
			t.Fatalf("Decide() by serial %d, want 5", d.BundleSerial)
		}
	}
	if st := s.source.Status(); st.Manifest.Serial != 5 || st.Origin != bundle.OriginSource {
		t.Errorf("Status() = %+v, want serial 5 of the source", st)
	}
	select {
	case err := <-done:
		t.Errorf("Reload() = %v while the registry says nothing, want it to wait", err)
	default:
	}
	before := len(s.reports)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Reload() = %v, want canceled", err)
	}
	if st := s.source.Status(); len(s.reports) != before || len(st.Failures) != 0 {
		t.Errorf("%d reports and %v after the process has ended, want none: nobody refused anything", len(s.reports)-before, st.Failures)
	}
	s.want(5, "at the end")
}
