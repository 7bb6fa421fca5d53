package apiserver_test

import (
	"encoding/base64"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

func TestNewNamesTheField(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*apiserver.Config)
		text   string
	}{
		"complete":         {func(*apiserver.Config) {}, ""},
		"no clock":         {func(c *apiserver.Config) { c.Clock, c.ReadTimeout = nil, 0 }, ""},
		"no REST":          {func(c *apiserver.Config) { c.REST = nil }, "REST"},
		"no logger":        {func(c *apiserver.Config) { c.Logger = nil }, "Logger"},
		"no node":          {func(c *apiserver.Config) { c.Node = "" }, "Node"},
		"odd node":         {func(c *apiserver.Config) { c.Node = "a,b" }, "Node"},
		"no driver":        {func(c *apiserver.Config) { c.DriverName = "" }, "DriverName"},
		"odd driver":       {func(c *apiserver.Config) { c.DriverName = "../x" }, "DriverName"},
		"negative timeout": {func(c *apiserver.Config) { c.ReadTimeout = -1 }, "ReadTimeout"},
		"long timeout":     {func(c *apiserver.Config) { c.ReadTimeout = time.Minute }, "ReadTimeout"},
		"plain http":       {func(c *apiserver.Config) { c.REST = &rest.Config{Host: "http://127.0.0.1:1"} }, "not https"},
		"no scheme":        {func(c *apiserver.Config) { c.REST = &rest.Config{Host: "127.0.0.1:1"} }, "not https"},
		"no host":          {func(c *apiserver.Config) { c.REST = &rest.Config{} }, "not https"},
		"odd host":         {func(c *apiserver.Config) { c.REST = &rest.Config{Host: "https://user:" + canary + "@[::1"} }, "not a URL"},
		"unverified":       {func(c *apiserver.Config) { c.REST.Insecure, c.REST.CAData = true, nil }, "certificate authority"},
		"program":          {func(c *apiserver.Config) { c.REST.ExecProvider = &clientcmdapi.ExecConfig{Command: "x"} }, "no daemon starts another program"},
		"plugin":           {func(c *apiserver.Config) { c.REST.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "x"} }, "no daemon starts another program"},
		"no certificate":   {func(c *apiserver.Config) { c.REST.CAData = []byte("x") }, "configure the API server"},
	} {
		t.Run(name, func(t *testing.T) {
			c := apiserver.Config{
				REST: newAPI(t).config(), Node: "node-1", DriverName: driverName, Logger: slog.New(slog.DiscardHandler), Clock: time.Now, ReadTimeout: time.Second,
			}
			test.change(&c)
			_, err := apiserver.New(c)
			if test.text == "" {
				if err != nil {
					t.Errorf("New() = %v, want no error", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), canary) {
				t.Errorf("New() = %v, want an error about %q", err, test.text)
			}
		})
	}
}

// The caller's configuration is only read.
func TestConfigIsCopied(t *testing.T) {
	f := newAPI(t)
	c := f.config()
	c.Host += "/"
	r, err := apiserver.New(apiserver.Config{REST: c, Node: "node-1", DriverName: driverName, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if c.QPS != 0 || c.UserAgent != "" || c.Dial != nil || c.GroupVersion != nil {
		t.Errorf("configuration = %+v, want it unchanged", c)
	}
	c.Host = "https://198.51.100.1"
	if _, err := r.CSIDriver(t.Context()); err != nil {
		t.Errorf("CSIDriver() after a change of the configuration = %v, want no error", err)
	}
}

// Behind some gateways the API server is below a path.
func TestHostWithPath(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.REST.Host += "/clusters/a/" })
	if _, err := f.CSIDriver(t.Context()); err == nil {
		t.Fatal("CSIDriver() below a path that is not served = nil, want an error")
	}
	if got, want := f.api.asked[0].URL.Path, "/clusters/a"+driverPath; got != want {
		t.Errorf("path = %q, want %q", got, want)
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "https://198.51.100.1", certificate-authority-data: CA}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
users: [{name: a, user: {token: Xcanary7}}]
`

func TestLoad(t *testing.T) {
	a := newAPI(t)
	ca := base64.StdEncoding.EncodeToString(a.config().CAData)
	good := strings.Replace(kubeconfig, "CA}", ca+"}", 1)
	for name, test := range map[string]struct{ from, to, text string }{
		"good":             {"", "", ""},
		"plain http":       {"https://", "http://", "not https"},
		"not verified":     {"certificate-authority-data: " + ca, "insecure-skip-tls-verify: true", "certificate authority"},
		"program":          {"token: Xcanary7", "exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Never}", "no daemon starts another program"},
		"plugin":           {"token: Xcanary7", "auth-provider: {name: oidc}", "no daemon starts another program"},
		"no such context":  {"current-context: a", "current-context: b", "context"},
		"empty":            {good, "", "the file is empty"},
		"not YAML":         {"token: Xcanary7", "token: [Xcanary7", "not a kubeconfig"},
		"wrong type":       {"token: Xcanary7", "token: {a: Xcanary7}", "not a kubeconfig"},
		"token for a list": {"users: [{name: a, user: {token: Xcanary7}}]", "users: Xcanary7", "not a kubeconfig"},
		"another kind":     {"kind: Config", "kind: Secret", "not a kubeconfig"},
		"no CA file":       {"certificate-authority-data: " + ca, "certificate-authority: absent.crt", "absent.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			text := good
			if test.from != "" {
				if text = strings.Replace(good, test.from, test.to, 1); text == good {
					t.Fatalf("%q is not in the file", test.from)
				}
			}
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := apiserver.Load(path)
			if name == "good" {
				if err != nil || c.Host != "https://198.51.100.1" || c.BearerToken != canary {
					t.Errorf("Load() = %v, %v, want the file's", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), canary) {
				t.Errorf("Load() = %v, want an error about %q and the file, without the token", err, test.text)
			}
		})
	}
	if _, err := apiserver.Load(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Load(absent) = %v, want an error", err)
	}
}

// An empty file is no reason to take the cluster around it, and the environment
// names no other.
func TestLoadTakesNothingElse(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "198.51.100.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	if c, err := apiserver.Load(path); err == nil {
		t.Errorf("Load(empty) = %v, want an error", c)
	}
	_, err := apiserver.Load("")
	if err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("Load() in a pod without a token = %v, want an error with both remedies", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err = apiserver.Load("")
	if err == nil || !strings.Contains(err.Error(), "--kubeconfig") || !strings.Contains(err.Error(), "DaemonSet") {
		t.Errorf("Load() outside of a cluster = %v, want an error with both ways", err)
	}
}

// The client library must not write to the standard error.
func TestLibraryLogsToTheLogger(t *testing.T) {
	klog.Background().Info("a line of the library " + t.Name())
	klog.V(1).Info("a wordy line " + t.Name())
	klog.Background().V(4).Info("a wordier line " + t.Name())
	log := libraryLog.String()
	if !strings.Contains(log, "a line of the library "+t.Name()) {
		t.Errorf("log = %s, want the line", log)
	}
	if strings.Contains(log, "wordy line "+t.Name()) || strings.Contains(log, "wordier") {
		t.Errorf("log = %s, want no more than that", log)
	}
	if _, err := io.WriteString(&libraryLog, ""); err != nil {
		t.Fatal(err)
	}
}
