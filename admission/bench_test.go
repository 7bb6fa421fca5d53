package admission_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
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
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const (
	benchGrants  = 10_000
	benchPodSize = 6 << 10
)

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
		p.Spec.Containers[0].Image = "registry.example/api@sha256:" + policiestest.Digest
		for i := 0; ; i++ {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "https://service.example/path"})
			if p.Size() >= benchPodSize*3/4 { // as protobuf, which is shorter
				return
			}
		}
	})
}

// bench is the webhook as it runs: TLS, its bounds, its handlers, a recorder that
// keeps inputs, and a log on the disk.
type bench struct {
	url string
	ca  []byte
	log *auditlog.Log
}

func newBench(b *testing.B, policy *policies.Engine) *bench {
	b.Helper()
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "admission", Version: "v0.0.0-test", Cluster: "test"}
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(b.TempDir(), "audit"), Origin: "test/webhook/0", Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	kept, err := inputs.Open(inputs.Config{Dir: filepath.Join(b.TempDir(), "inputs"), MaxBytes: 64 << 20, Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	recorder, err := audit.New(audit.Config{Log: log, Logger: logger, Source: source, Inputs: kept})
	if err != nil {
		b.Fatal(err)
	}
	handlers, err := admission.New(admission.Config{
		DriverName: driverName, Cluster: "test", Policy: &active{policy}, Recorder: recorder, Meter: noop.Meter{}, Logger: logger,
		Facts: &objects{namespace: namespace(), account: account(), class: map[string]*spcv1.SecretProviderClass{"db": class("db")}},
	})
	if err != nil {
		b.Fatal(err)
	}
	w := &bench{log: log}
	stop := w.serve(b, handlers)
	b.Cleanup(func() {
		if err := errors.Join(stop(), recorder.Close(context.WithoutCancel(b.Context())), kept.Close(), log.Close()); err != nil {
			b.Error(err)
		}
	})
	return w
}

func (w *bench) serve(b *testing.B, handlers admission.Handlers) (stop func() error) {
	b.Helper()
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	lender.Close()
	s, err := server.New(server.Config{
		Hooks:          map[string]webhook.Handler{"/pods": handlers.Pods},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &lender.TLS.Certificates[0], nil },
		Logger:         slog.New(slog.DiscardHandler), Drain: time.Millisecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	w.url, w.ca = "https://"+listener.Addr().String()+"/pods", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lender.Certificate().Raw})
	return func() error {
		cancel()
		return <-ended
	}
}

// body is a review in which "#" is a number.
func body(b *testing.B) string {
	b.Helper()
	r := request(b, benchPod(), nil)
	text, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": r})
	if err != nil {
		b.Fatal(err)
	}
	if n := len(r.Object.Raw); n < benchPodSize*9/10 || n > benchPodSize*11/10 {
		b.Fatalf("the pod has %d bytes, want about %d", n, benchPodSize)
	}
	return string(text)
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
// is another. Each answer has to have its event. First one after another, each
// measured; then as many in a second as take 80 % of a core.
func BenchmarkReview(b *testing.B) {
	local := policiestest.WithConfig("checks: {provider: {allowed: [local]}}\n")
	for _, policy := range []struct {
		name    string
		options []policiestest.Option
	}{{"library", nil}, {"starter", append(starter(b), local)}} {
		engine := policiestest.Engine(b, grantsOf(benchGrants), policy.options...)
		b.Run(policy.name+"/each", func(b *testing.B) { newBench(b, engine).each(b) })
		b.Run(policy.name+"/sustained", func(b *testing.B) { newBench(b, engine).sustained(b) })
	}
}

// warm is how many reviews come before any is measured.
const warm = 50

func (w *bench) each(b *testing.B) {
	c := newCaller(b, errand{URL: w.url, CA: w.ca, Body: body(b)})
	all := c.send(b, order{N: warm})
	var costs, took []time.Duration
	before := spent(b)
	for b.Loop() {
		one := c.send(b, order{N: 1})
		now := spent(b)
		costs, took, all = append(costs, now-before), append(took, one[0].Took), append(all, one...)
		before = now
	}
	w.check(b, all)
	var sum time.Duration
	for _, d := range costs {
		sum += d
	}
	b.ReportMetric(ms(sum)/float64(len(costs)), "cpu-ms")
	b.ReportMetric(ms(part(costs, 50)), "cpu-ms-p50")
	b.ReportMetric(ms(part(costs, 99)), "cpu-ms-p99")
	b.ReportMetric(ms(part(took, 50)), "ms-p50")
	b.ReportMetric(ms(part(took, 99)), "ms-p99")
}

// sustained corrects the rate once: reviews at a time share what the log and the
// garbage collector cost, so that those one after another say too little.
func (w *bench) sustained(b *testing.B) {
	const share, trial = 0.8, 300
	c := newCaller(b, errand{URL: w.url, CA: w.ca, Body: body(b)})
	all := c.send(b, order{N: warm})
	used := func(o order) (cores float64) {
		before, begin := spent(b), time.Now()
		all = append(all, c.send(b, o)...)
		return float64(spent(b)-before) / float64(time.Since(begin))
	}
	before := spent(b)
	all = append(all, c.send(b, order{N: trial})...)
	rate := share * trial / (spent(b) - before).Seconds()
	rate *= share / used(order{N: trial, Rate: rate})
	b.ResetTimer()
	cores := used(order{N: b.N, Rate: rate})
	b.StopTimer()
	w.check(b, all)
	took := make([]time.Duration, 0, b.N)
	for _, one := range all[len(all)-b.N:] {
		took = append(took, one.Took)
	}
	b.ReportMetric(rate, "reviews/s")
	b.ReportMetric(100*cores, "%-of-a-core")
	b.ReportMetric(ms(part(took, 50)), "ms-p50")
	b.ReportMetric(ms(part(took, 99)), "ms-p99")
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// part is the duration that so many in a hundred do not exceed.
func part(all []time.Duration, percent int) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*percent/100]
}

// check looks for the event of every decision, each of which is another.
func (w *bench) check(b *testing.B, all []heard) {
	b.Helper()
	want := map[string]int{}
	for _, one := range all {
		want[one.Decision] = 0
	}
	if len(want) != len(all) {
		b.Fatalf("%d different decisions, want %d", len(want), len(all))
	}
	events := 0
	err := w.log.Each(func(_ auditlog.Position, leaf []byte) error {
		e, err := audit.Parse(leaf)
		if err == nil && e.Policy != nil && e.Type == audit.TypeAdmission && e.Outcome == audit.OutcomeSuccess {
			want[e.Policy.DecisionID]++
			events++
		}
		return err
	})
	for id, n := range want {
		if n != 1 {
			b.Errorf("decision %q has %d events, want one", id, n)
		}
	}
	if err != nil || events != len(all) {
		b.Fatalf("%d reviews have %d events, %v", len(all), events, err)
	}
}
