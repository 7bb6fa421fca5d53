package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// liveAPI is an API server with n pods, a hundred on a page, whose class, service
// account and namespace there are. Pages from failsAt on answer 500; what has one of
// the names answers a code of its own.
type liveAPI struct {
	n, failsAt int
	codes      map[string]int
	mu         sync.Mutex
	asked      map[string]int
}

func (a *liveAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.RequestURI()]++
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	name := path.Base(r.URL.Path)
	switch code := a.codes[name]; {
	case code != 0:
		w.WriteHeader(code)
		_, _ = io.WriteString(w, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","details":{"name":%q},"code":%d}`, name, code))
	case strings.HasSuffix(r.URL.Path, "/pods"):
		a.list(w, r)
	case strings.Contains(r.URL.Path, "/secretproviderclasses/"):
		_, _ = io.WriteString(w, fmt.Sprintf(`{"kind":"SecretProviderClass","apiVersion":"secrets-store.csi.x-k8s.io/v1","metadata":{"name":%q,"namespace":"payments"},
			"spec":{"provider":"local","parameters":{"objects":"- objectName: payments/db-password\n"}}}`, name))
	case strings.Contains(r.URL.Path, "/serviceaccounts/"):
		_, _ = io.WriteString(w, fmt.Sprintf(`{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":%q,"namespace":"payments"}}`, name))
	default:
		_, _ = io.WriteString(w, `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"payments"}}`)
	}
}

func (a *liveAPI) list(w http.ResponseWriter, r *http.Request) {
	first := 0
	_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &first)
	if a.failsAt > 0 && first >= a.failsAt {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for i := first; i < min(first+100, a.n); i++ {
		list.Items = append(list.Items, user("payments", fmt.Sprintf("pod-%04d", i), func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = fmt.Sprint("account-", i%7)
			p.Spec.Volumes[0].CSI.ReadOnly = new(true)
			p.Spec.Volumes[0].CSI.VolumeAttributes = map[string]string{"secretProviderClass": fmt.Sprint("class-", i%5)}
		}))
	}
	if first+100 < a.n {
		list.Continue = fmt.Sprint(first + 100)
	}
	_ = json.NewEncoder(w).Encode(list)
}

// serve returns a kubeconfig for the API server.
func (a *liveAPI) serve(t *testing.T) string {
	t.Helper()
	a.asked = map[string]int{}
	server := httptest.NewTLSServer(a)
	t.Cleanup(server.Close)
	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{
		Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	file.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: "token"}
	file.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	file.CurrentContext = "c"
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, kubeconfig); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// diffOver compares two bundles over the cluster: one lets everybody of the namespace
// have what all ask for, the other has these grants.
func diffOver(t *testing.T, kubeconfig, grants string) (string, error) {
	t.Helper()
	cmd := portcullis.Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"policy", "diff", "--old", bundleDir(t, everybody()), "--new", bundleDir(t, grants), "--cluster", "-A", "--kubeconfig", kubeconfig})
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// However many are read at a time, every pod is compared once, and each object that
// pods share is asked for once.
func TestPodsOfAClusterAreReadAheadAndOnce(t *testing.T) {
	a := &liveAPI{n: 730}
	out, err := diffOver(t, a.serve(t), "")
	if !portcullis.AnswerIsNo(err) {
		t.Fatalf("policy diff = %v, want that something flips", err)
	}
	if !strings.Contains(out, "730 decisions compared on 730 inputs: 730 flip") {
		t.Errorf("policy diff says %q, want 730 flips", out[max(0, len(out)-300):])
	}
	for i := range a.n {
		if n := strings.Count(out, fmt.Sprintf("Pod payments/pod-%04d,", i)); n != 1 {
			t.Errorf("pod %d is listed %d times, want once", i, n)
		}
	}
	if len(a.asked) != 8+7+5+1 {
		t.Errorf("%d different questions, want 8 pages, 7 accounts, 5 classes and a namespace: %v", len(a.asked), a.asked)
	}
	for what, n := range a.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times, want once", what, n)
		}
	}
}

// A list that breaks off is no shorter list.
func TestAListOfPodsThatBreaksOffIsAnError(t *testing.T) {
	out, err := diffOver(t, (&liveAPI{n: 730, failsAt: 300}).serve(t), "")
	if err == nil || portcullis.AnswerIsNo(err) || !strings.Contains(err.Error(), "list pods: the API server answered 500") || out != "" {
		t.Errorf("policy diff = %v and says %q, want the error of the list and nothing else", err, out)
	}
}

func everybody() string { return strings.Replace(policiestest.Grants, "[api]", `["*"]`, 1) }

// What could not be read may flip: that nothing else does is no good answer. A class
// that does not exist is another matter: no bundle lets it be mounted.
func TestVolumesThatCannotBeReadAreNoConsent(t *testing.T) {
	for name, tt := range map[string]struct {
		api   *liveAPI
		wants string // in the error; "" for none
	}{
		"all read":        {&liveAPI{n: 20}, ""},
		"no class":        {&liveAPI{n: 20, codes: map[string]int{"class-3": http.StatusNotFound}}, ""},
		"forbidden":       {&liveAPI{n: 20, codes: map[string]int{"account-2": http.StatusForbidden}}, "3 volumes were not compared, the first for this: get serviceaccounts account-2 in namespace payments: the API server answered 403"},
		"no class exists": {&liveAPI{n: 3, codes: map[string]int{"class-0": 404, "class-1": 404, "class-2": 404}}, "none of 3 volumes could be compared"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := diffOver(t, tt.api.serve(t), everybody())
			if (err != nil) != (tt.wants != "") || err != nil && !strings.Contains(err.Error(), tt.wants) || portcullis.AnswerIsNo(err) {
				t.Errorf("policy diff = %v, want an error with %q; it says\n%s", err, tt.wants, out)
			}
		})
	}
}

// What takes the pods may stop: nothing more is asked then.
func TestReadingAheadEndsWithItsReader(t *testing.T) {
	a := &liveAPI{n: 100_000}
	kubeconfig := a.serve(t)
	cmd := portcullis.Command()
	ctx, cancel := contextEndingAfter(t, a, 3)
	defer cancel()
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"policy", "diff", "--old", bundleDir(t, policiestest.Grants), "--new", bundleDir(t, ""), "--cluster", "-A", "--kubeconfig", kubeconfig})
	if err := cmd.ExecuteContext(ctx); !errors.Is(err, ctx.Err()) || err == nil {
		t.Errorf("policy diff = %v, want that it was ended", err)
	}
	if pages := a.pages(); pages > 20 {
		t.Errorf("%d pages were read, want few", pages)
	}
}

func (a *liveAPI) pages() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for what := range a.asked {
		if strings.Contains(what, "/pods?") {
			n++
		}
	}
	return n
}

// contextEndingAfter ends when so many pages of pods were asked for.
func contextEndingAfter(t *testing.T, a *liveAPI, pages int) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil && a.pages() < pages {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	return ctx, cancel
}

// bundleDir writes a bundle with these grants.
func bundleDir(t *testing.T, grants string) string {
	t.Helper()
	dir := t.TempDir()
	for name, file := range policiestest.Files(grants) {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o750), os.WriteFile(at, file.Data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
