package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/cluster"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const (
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	info   = `portcullis_policy_bundle_info{contract="portcullis/v1",digest="` + digest + `",origin="source",serial="7"} 1` + "\n"
	calm   = "portcullis_policy_break_glass 0\n"
	podsOf = "/api/v1/namespaces/kube-system/pods"
	two    = `{"items":[
	{"metadata":{"name":"csi-a"},"spec":{"nodeName":"node1","containers":[{"image":"sidecar"},{"image":"ghcr.io/portcullis-csi/portcullis-node:1","ports":[{"name":"healthz","containerPort":9808},{"name":"metrics","containerPort":8099}]}]},"status":{"phase":"Running"}},
	{"metadata":{"name":"portcullis-webhook-0"},"spec":{"nodeName":"node2","containers":[{"image":"registry.example/portcullis-webhook@sha256:00"}]},"status":{"phase":"Running"}},
	{"metadata":{"name":"starting"},"spec":{"containers":[{"image":"portcullis-node"}]},"status":{"phase":"Pending"}},
	{"metadata":{"name":"going","deletionTimestamp":"2026-11-26T12:00:00Z"},"spec":{"containers":[{"image":"portcullis-node"}]},"status":{"phase":"Running"}},
	{"metadata":{"name":"upstream"},"spec":{"containers":[{"image":"registry.k8s.io/csi-secrets-store/driver:v1.6.0"}]},"status":{"phase":"Running"}}]}`
)

// A page as daemons really serve it is read.
func TestRealMetricsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants))
	if err == nil {
		err = bundle.WriteFile(path, b, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	source, err := bundle.NewSource(bundle.Config{Verifier: bundle.Path(path), AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	meter, handler, err := daemon.Meter(daemon.Metering{Scope: "test", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.MeasurePolicy(meter, source); err != nil {
		t.Fatal(err)
	}
	page := func() string {
		w := httptest.NewRecorder()
		daemon.MetricsOnly(handler).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	if d, err := cluster.PolicyOf(page()); err != nil || d.Policy != nil || d.Candidate != nil {
		t.Errorf("without a bundle in force: %+v, %v, want none", d, err)
	}
	if err := source.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := source.Status()
	d, err := cluster.PolicyOf(page())
	if err != nil || d.Policy == nil {
		t.Fatalf("with a bundle in force: %+v, %v\n%s", d, err, page())
	}
	d.Policy.Age = 0
	want := doctor.InForce{Digest: st.Digest, Serial: st.Manifest.Serial, Origin: string(st.Origin), NotAfter: st.Manifest.NotAfter.Truncate(time.Second).UTC()}
	if st.Manifest.NotAfter.IsZero() {
		want.NotAfter = time.Time{}
	}
	if diff := cmp.Diff(want, *d.Policy); diff != "" || want.Digest == "" {
		t.Errorf("what is in force (-want +got):\n%s", diff)
	}
}

func TestMetricsOfPolicy(t *testing.T) {
	const scoped = `{otel_scope_name="a\"}\\{",otel_scope_version="v1"}`
	page := "# HELP portcullis_policy_break_glass x\ngo_goroutines 7\nportcullis_policy_decisions_total{verdict=\"allow\"} 9.9e+99\n" +
		strings.Replace(info, "{", `{otel_scope_name="a\"}\\{",`, 1) +
		"portcullis_policy_bundle_age_seconds" + scoped + " 3600\r\n" +
		"portcullis_policy_bundle_not_after_seconds" + scoped + " 1.7982e+09 1764158400000\n" +
		"portcullis_policy_break_glass" + scoped + " 1\n" +
		"portcullis_policy_shadow_serial 8\nportcullis_policy_shadow_evaluations_total{result=\"same\"} 5\n" +
		"portcullis_policy_shadow_evaluations_total{result=\"flip\"} 2\nportcullis_policy_shadow_evaluations_total{result=\"panic\",} 1\n"
	got, err := cluster.PolicyOf(page)
	want := doctor.Daemon{
		Policy: &doctor.InForce{
			Digest: digest, Serial: 7, Origin: "source", Age: time.Hour, NotAfter: time.Unix(1798200000, 0).UTC(), BreakGlass: true,
		},
		Candidate: &doctor.Candidate{Serial: 8, Compared: 8, Flips: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("PolicyOf() = %v (-want +got):\n%s", err, diff)
	}
}

// hostile are pages that no daemon of ours serves.
func hostile() map[string]string {
	return map[string]string{
		"nothing": "", "something else": "<html>" + canary, "no word of emergencies": info,
		"two bundles": calm + info + strings.Replace(info, `"7"`, `"8"`, 1), "a digest that is none": calm + strings.Replace(info, digest, canary, 1),
		"a serial that is none": calm + strings.Replace(info, `"7"`, `"seven"`, 1), "no labels": calm + "portcullis_policy_bundle_info 1\n",
		"an open label": calm + `portcullis_policy_bundle_info{digest="` + "\n", "a label without quotes": calm + "portcullis_policy_bundle_info{digest=x} 1\n",
		"a label in backquotes": calm + "portcullis_policy_bundle_info{digest=`x`} 1\n", "no value": info + "portcullis_policy_break_glass\n",
		"no number": info + "portcullis_policy_break_glass yes\n", "not a number": info + "portcullis_policy_break_glass NaN\n",
		"beyond all time": calm + info + "portcullis_policy_bundle_age_seconds 1e300\n", "before all time": calm + info + "portcullis_policy_bundle_not_after_seconds -Inf\n",
	}
}

func TestPagesThatAreNoMetricsOfOurs(t *testing.T) {
	for name, page := range hostile() {
		if d, err := cluster.PolicyOf(page); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "; hint: ") {
			t.Errorf("%s: PolicyOf() = %+v, %v, want an error in our words", name, d, err)
		}
	}
}

func FuzzPolicyOf(f *testing.F) {
	f.Add(calm + info)
	for _, page := range hostile() {
		f.Add(page)
	}
	f.Fuzz(func(t *testing.T, page string) {
		d, err := cluster.PolicyOf(page)
		if err == nil && d.Policy != nil && (len(d.Policy.Digest) != len(digest) || d.Policy.Age > 286*365*24*time.Hour) {
			t.Errorf("PolicyOf(%q) = %+v", page, d.Policy)
		}
	})
}

// Those that run are asked at their own port, and the others not at all.
func TestDaemonsAreAsked(t *testing.T) {
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		podsOf: func(w http.ResponseWriter, r *http.Request) {
			if got := r.URL.Query().Get("labelSelector"); got != "app in (secrets-store-csi-driver,portcullis-webhook)" {
				t.Errorf("pods are selected by %q", got)
			}
			says(http.StatusOK, two)(w, r)
		},
		podsOf + "/csi-a:8099/proxy/metrics": func(w http.ResponseWriter, r *http.Request) {
			if accept := r.Header.Get("Accept"); accept != "text/plain" {
				t.Errorf("metrics are accepted as %q", accept)
			}
			says(http.StatusOK, calm+info)(w, r)
		},
		podsOf + "/portcullis-webhook-0:8095/proxy/metrics":                 says(http.StatusServiceUnavailable, canary),
		"/api/v1/namespaces/kube-system/configmaps/portcullis-policy-floor": says(http.StatusOK, `{"metadata":{"name":"x"},"data":{"serial":"7","other":"`+canary+`"}}`),
	})
	found := gather(t, a)
	all := found.Daemons.Value
	if found.Daemons.Err != nil || len(all) != 2 {
		t.Fatalf("Daemons = %+v, want the two that run", found.Daemons)
	}
	if diff := cmp.Diff(doctor.Daemon{Name: "csi-a", Node: "node1", Image: "ghcr.io/portcullis-csi/portcullis-node:1", Policy: &doctor.InForce{Digest: digest, Serial: 7, Origin: "source"}}, all[0]); diff != "" {
		t.Errorf("the plugin (-want +got):\n%s", diff)
	}
	if d := all[1]; !d.Webhook || d.Node != "node2" || d.Image != "registry.example/portcullis-webhook@sha256:00" || d.Policy != nil || d.Err == nil || strings.Contains(d.Err.Error(), canary) {
		t.Errorf("the webhook is %+v, want why it was not asked", d)
	}
	if floor := found.Floor; floor.Err != nil || floor.Value == nil || floor.Value.Data.Serial != "7" {
		t.Errorf("Floor = %+v, want serial 7", floor)
	}
	if text := fmt.Sprintf("%+v", found.Floor.Value); strings.Contains(text, canary) {
		t.Errorf("Floor holds what was to be dropped: %s", text)
	}
	if absent := gather(t, newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		podsOf: says(http.StatusForbidden, ""), "/api/v1/namespaces/kube-system/configmaps/portcullis-policy-floor": says(http.StatusNotFound, notFound),
	})); absent.Floor.Value != nil || absent.Floor.Err != nil || !errors.Is(absent.Daemons.Err, doctor.ErrForbidden) {
		t.Errorf("Floor, Daemons = %+v, %+v, want none and forbidden", absent.Floor, absent.Daemons)
	}
}

// A cluster of many nodes is asked a few at a time, and one that hangs costs its own
// time alone.
func TestManyDaemons(t *testing.T) {
	var now, most atomic.Int32
	items := make([]string, 100)
	for i := range items {
		items[i] = `{"metadata":{"name":"p"},"spec":{"containers":[{"image":"portcullis-node"}]},"status":{"phase":"Running"}}`
	}
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		podsOf: says(http.StatusOK, `{"items":[`+strings.Join(items, ",")+`]}`),
		podsOf + "/p:8095/proxy/metrics": func(w http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(5 * time.Millisecond)
			says(http.StatusOK, calm+info)(w, r)
		},
	})
	found := gather(t, a).Daemons
	asked := 0
	for _, d := range found.Value {
		if d.Err == nil && d.Policy != nil {
			asked++
		}
	}
	if asked != 100 || most.Load() > 16 || most.Load() < 2 {
		t.Errorf("%d of 100 were asked, %d at a time; want all, and 16 at most", asked, most.Load())
	}
}

// A plugin that somebody has taken over sends whoever asks elsewhere, answers without
// end, or with what is not text: it is one that could not be asked.
func TestDaemonsThatAreNone(t *testing.T) {
	elsewhere := newAPI(t, nil)
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/metrics", http.StatusTemporaryRedirect)
		},
		"escape sequences": says(http.StatusOK, "\x1b[2J"+calm+strings.ReplaceAll(info, "source", "\x1b[2J")),
		"no metrics":       says(http.StatusNotFound, canary),
		"another page":     says(http.StatusOK, `{"items":[]}`),
		"more than a page": says(http.StatusOK, calm+info+strings.Repeat("#\n", 3<<20)),
		"forbidden":        says(http.StatusForbidden, canary),
	} {
		a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
			podsOf:                               says(http.StatusOK, two),
			podsOf + "/csi-a:8099/proxy/metrics": answer,
			podsOf + "/portcullis-webhook-0:8095/proxy/metrics": says(http.StatusOK, calm+info),
		})
		all := gather(t, a).Daemons.Value
		if len(all) != 2 || all[0].Err == nil || all[0].Policy != nil || all[0].Name != "csi-a" || strings.Contains(all[0].Err.Error(), canary) {
			t.Errorf("%s: %+v, want why the plugin was not asked", name, all)
			continue
		}
		if name == "forbidden" != errors.Is(all[0].Err, doctor.ErrForbidden) {
			t.Errorf("%s: %v", name, all[0].Err)
		}
		if all[1].Err != nil || all[1].Policy == nil {
			t.Errorf("%s: the webhook is %+v, want what it has in force", name, all[1])
		}
	}
	if len(elsewhere.asked) > 0 {
		t.Errorf("where a plugin sent to was asked for %v", elsewhere.asked)
	}
}
