package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
	"github.com/portcullis-csi/portcullis/doctor"
)

// doctored runs doctor with the places of a node that is empty but for its
// kubelet root, and returns what it prints and its error.
func doctored(t *testing.T, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "kubelet", "pods"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "absent"))
	t.Setenv("HOME", dir)
	var out bytes.Buffer
	cmd := portcullis.Command()
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{
		"doctor", "--kubelet-root=" + filepath.Join(dir, "kubelet"), "--csi-socket=" + filepath.Join(dir, "csi.sock"), "--registration-dir=" + filepath.Join(dir, "reg"),
		"--provider-dirs=" + filepath.Join(dir, "providers"), "--state-dir=" + filepath.Join(dir, "state"), "--health-addr=127.0.0.1:1",
	}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// apiServer is one that has nothing, and its kubeconfig.
func apiServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"items":[]}`))
	}))
	t.Cleanup(s.Close)
	return kubeconfig(t, s.URL)
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: " + server + "}}]\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDoctorOfNodeAndCluster(t *testing.T) {
	text, err := doctored(t, "--kubeconfig="+apiServer(t), "--node-name=node1")
	if !portcullis.AnswerIsNo(err) {
		t.Errorf("doctor = %v, want the answer no", err)
	}
	for _, want := range []string{"node: node1 with the kubelet root ", "cluster: http://127.0.0.1:", "\nOK    kubelet.pods ", "\nFAIL  plugin.socket ", "\nFAIL  daemonset.ready ", "; hint: "} {
		if !strings.Contains("\n"+text, want) {
			t.Errorf("doctor prints no %q:\n%s", want, text)
		}
	}
}

func TestDoctorAsJSON(t *testing.T) {
	text, err := doctored(t, "--only=cluster", "--kubeconfig="+apiServer(t), "-o", "json")
	if !portcullis.AnswerIsNo(err) {
		t.Errorf("doctor = %v, want the answer no", err)
	}
	var r doctor.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("doctor -o json: %v:\n%s", err, text)
	}
	if len(r.Parts) != 2 || r.Parts[0].Looked || r.Parts[0].Detail != "--only cluster" || !r.Parts[1].Looked || r.Count(doctor.Fail) == 0 {
		t.Errorf("doctor -o json = %+v, want the cluster alone", r)
	}
}

func TestDoctorCannotLook(t *testing.T) {
	unreachable := kubeconfig(t, "http://127.0.0.1:1")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no cluster":          {[]string{"--only=cluster"}, "nothing could be looked at"},
		"unreachable cluster": {[]string{"--only=cluster", "--kubeconfig=" + unreachable}, "the API server did not answer"},
		"named cluster":       {[]string{"--kubeconfig=" + unreachable}, "look at the cluster: the API server did not answer"},
		"relative path":       {[]string{"--only=node", "--provider-dirs=x"}, "x is not an absolute path"},
	} {
		text, err := doctored(t, test.args...)
		if err == nil || portcullis.AnswerIsNo(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: doctor = %v, want an error with %q; it prints\n%s", name, err, test.want, text)
		}
		if name == "named cluster" && !strings.Contains(text, "plugin.socket") {
			t.Errorf("%s: the node is not reported:\n%s", name, text)
		}
	}
	if code := portcullis.Run([]string{"doctor", "--only=cluster", "--kubeconfig=" + unreachable}); code != 1 {
		t.Errorf("doctor of an unreachable cluster ends with %d, want 1", code)
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--only=both"}, {"--only=node", "--context=c"}, {"--timeout=0s"}, {"--drivername=a/b"}, {"--namespace="}, {"--output=xml"}, {"more"}, {"--provider-dirs="},
	} {
		if code := portcullis.Run(append([]string{"doctor"}, args...)); code != 2 && args[0] != "more" {
			t.Errorf("doctor %q ends with %d, want 2", args, code)
		}
	}
}

// A pod that the chart's policies would refuse is found by the rules of the chart.
func TestDoctorPreviewsDenials(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body := `{"items":[]}`
		if r.URL.Path == "/api/v1/pods" {
			body = `{"items":[{"metadata":{"namespace":"payments","name":"api"},"spec":{"hostPID":true,"containers":[{"name":"main"}],"volumes":[{"name":"s","csi":{"driver":"secrets-store.csi.k8s.io","readOnly":true}}]}},
				{"metadata":{"namespace":"kube-system","name":"local"},"spec":{"serviceAccountName":"portcullis-provider-local","containers":[{"name":"main"}],"volumes":[{"name":"s","hostPath":{"path":"/proc"}}]}}]}`
		}
		_, _ = w.Write([]byte(body))
	}))
	defer s.Close()
	text, _ := doctored(t, "--only=cluster", "--kubeconfig="+kubeconfig(t, s.URL))
	if !strings.Contains(text, "WARN  admission.deny-preview       portcullis-privileged would refuse pod payments/api for spec.hostPID") {
		t.Errorf("doctor does not say that deny would refuse the pod:\n%s", text)
	}
	if strings.Contains(text, "kube-system/local") {
		t.Errorf("doctor says that deny would refuse the chart's own provider:\n%s", text)
	}
}

// Whoever answers in the API server's place does not write to the terminal.
func TestDoctorPrintsNoEscapeSequences(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a\x1b]0;owned\x07.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	for _, only := range []string{"--only=cluster", "--only="} {
		text, err := doctored(t, only, "--kubeconfig="+kubeconfig(t, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)))
		if err == nil || !strings.Contains(err.Error(), "owned") || strings.ContainsAny(err.Error()+text, "\x1b\x07") {
			t.Errorf("doctor %s = %q and prints %q, want the name in the certificate, printable", only, err, text)
		}
	}
}
