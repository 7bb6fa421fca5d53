package admission_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	corev1 "k8s.io/api/core/v1"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/admission/server"
	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const (
	// envCaller makes the test binary an API server of BenchmarkReview: a process of
	// its own, so that what it costs is not counted as the webhook's.
	envCaller = "PORTCULLIS_BENCH_CALLER"

	benchGrants  = 10_000
	benchPodSize = 6 << 10
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(envCaller); spec != "" {
		if err := call(spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// errand is what the caller is told: where to send how many reviews, and of what.
type errand struct {
	URL  string
	CA   []byte // PEM
	N    int
	Body string // a review in which "#" numbers the pod
}

// heard is what came of it.
type heard struct {
	Took      []time.Duration
	Decisions []string
}

// call sends reviews one after another on one connection, as an API server does, and
// writes down how long each took.
func call(spec string, in io.Reader, out io.Writer) error {
	var e errand
	if err := json.NewDecoder(in).Decode(&e); err != nil {
		return fmt.Errorf("%s: %w", spec, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CA)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}}}
	var all heard
	for i := range e.N {
		body := strings.ReplaceAll(e.Body, "#", strconv.Itoa(i))
		begin := time.Now()
		id, err := ask(client, e.URL, body)
		all.Took = append(all.Took, time.Since(begin))
		if err != nil {
			return err
		}
		all.Decisions = append(all.Decisions, id)
	}
	return json.NewEncoder(out).Encode(all)
}

func ask(client *http.Client, url, body string) (decision string, err error) {
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var got struct {
		Response struct {
			Allowed          bool
			AuditAnnotations map[string]string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil || !got.Response.Allowed {
		return "", fmt.Errorf("review not allowed: %w: %.500s", errors.Join(err), text)
	}
	return got.Response.AuditAnnotations["decision-id"], nil
}

// grantsOf are many grants of other namespaces, and one that is needed.
func grantsOf(n int) string {
	var text strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&text, "- {id: G-%d, owner: o, expiry: 2126-12-31, namespaces: [team-%d], serviceAccounts: [api, job], provider: local, secrets: [\"local://node/team-%d/*\"]}\n", i+2, i%500, i)
	}
	return text.String() + strings.TrimSpace(policiestest.Grants)
}

// benchPod is the pod of a review in which "#" is a number.
func benchPod() *corev1.Pod {
	return pod(func(p *corev1.Pod) {
		p.Name, p.UID = "api-#", "#-11111111"
		for i := 0; ; i++ {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "https://service.example/path"})
			if p.Size() >= benchPodSize*3/4 { // as protobuf, which is shorter
				return
			}
		}
	})
}

// bench is the webhook as it runs: TLS, its bounds, its handlers, a recorder and a
// log on the disk.
type bench struct {
	url string
	ca  []byte
	log *auditlog.Log
}

func newBench(b *testing.B) *bench {
	b.Helper()
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "admission", Version: "v0.0.0-test", Cluster: "test"}
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(b.TempDir(), "audit"), Origin: "test/webhook/0", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	recorder, err := audit.New(audit.Config{Log: log, Logger: logger, Source: source})
	if err != nil {
		b.Fatal(err)
	}
	handlers, err := admission.New(admission.Config{
		DriverName: driverName, Cluster: "test", Policy: &active{policiestest.Engine(b, grantsOf(benchGrants))}, Recorder: recorder, Meter: noop.Meter{}, Logger: logger,
		Facts: &objects{namespace: namespace(), account: account(), class: map[string]*spcv1.SecretProviderClass{"db": class("db")}},
	})
	if err != nil {
		b.Fatal(err)
	}
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	lender.Close()
	s, err := server.New(server.Config{
		Hooks:          map[string]webhook.Handler{"/pods": handlers.Pods},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &lender.TLS.Certificates[0], nil },
		Logger:         logger, Drain: time.Millisecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, recorder.Close(context.WithoutCancel(b.Context())), log.Close()); err != nil {
			b.Error(err)
		}
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lender.Certificate().Raw})
	return &bench{url: "https://" + listener.Addr().String() + "/pods", ca: ca, log: log}
}

// reviews has a process of its own send n reviews.
func (w *bench) reviews(b *testing.B, body string, n int) (all heard) {
	b.Helper()
	text, err := json.Marshal(errand{URL: w.url, CA: w.ca, N: n, Body: body})
	if err != nil {
		b.Fatal(err)
	}
	var out, complaint bytes.Buffer
	caller := exec.CommandContext(b.Context(), os.Args[0])
	caller.Env = append(os.Environ(), envCaller+"=BenchmarkReview")
	caller.Stdin, caller.Stdout, caller.Stderr = bytes.NewReader(text), &out, &complaint
	if err := caller.Run(); err != nil {
		b.Fatalf("the caller says %v: %s", err, &complaint)
	}
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		b.Fatal(err)
	}
	return all
}

// spent is the processor time of this process so far.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReview is what a review costs the webhook: TLS, 10 000 grants, a pod of
// 6 kB, and its event on the disk and in the tree before the answer. Processor time
// is of this process, garbage collection and the log's writer included; the caller
// is another. Each answer has to have its event.
func BenchmarkReview(b *testing.B) {
	w := newBench(b)
	r := request(b, benchPod(), nil)
	body, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": r})
	if err != nil {
		b.Fatal(err)
	}
	if n := len(r.Object.Raw); n < benchPodSize*9/10 || n > benchPodSize*11/10 {
		b.Fatalf("the pod has %d bytes, want about %d", n, benchPodSize)
	}
	round := 0
	b.Run("one after another", func(b *testing.B) {
		round++
		numbered := strings.ReplaceAll(string(body), "#", strconv.Itoa(round)+"-#") // no round repeats a pod
		w.reviews(b, strings.ReplaceAll(numbered, "api-", "warm-"), 20)
		before := spent(b)
		b.ResetTimer()
		all := w.reviews(b, numbered, b.N)
		b.StopTimer()
		cost := spent(b) - before
		w.check(b, all.Decisions)
		slices.Sort(all.Took)
		b.ReportMetric(float64(cost.Microseconds())/float64(b.N), "cpu-µs/review")
		b.ReportMetric(0.8*float64(b.N)/cost.Seconds(), "reviews/s-at-80%-of-a-core")
		b.ReportMetric(float64(all.Took[len(all.Took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(all.Took[len(all.Took)*99/100].Microseconds()), "p99-µs")
	})
}

// check looks for the event of every decision, each of which is another.
func (w *bench) check(b *testing.B, decisions []string) {
	b.Helper()
	want := map[string]bool{}
	for _, id := range decisions {
		want[id] = true
	}
	if len(want) != b.N {
		b.Fatalf("%d different decisions, want %d", len(want), b.N)
	}
	err := w.log.Each(func(_ auditlog.Position, leaf []byte) error {
		e, err := audit.Parse(leaf)
		if err == nil && e.Policy != nil && e.Type == audit.TypeAdmission && e.Outcome == audit.OutcomeSuccess {
			delete(want, e.Policy.DecisionID)
		}
		return err
	})
	if err != nil || len(want) > 0 {
		b.Fatalf("%d reviews have no event, %v", len(want), err)
	}
}
