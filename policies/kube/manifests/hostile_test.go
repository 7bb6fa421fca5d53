package manifests_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// The API server knows fields by their exact names; a decoder that is more
// generous would see a readOnly that the cluster does not.
func TestFieldNamesAreExact(t *testing.T) {
	for _, test := range []struct{ name, from, to string }{
		{"volume", "readOnly", "READONLY"},
		{"attributes", "volumeAttributes", "volumeattributes"},
		{"account", "serviceAccountName", "serviceaccountname"},
		{"security context", "securityContext", "SecurityContext"},
		{"metadata", "metadata", "Metadata"},
		{"namespace", "namespace: payments", "Namespace: payments"},
		{"another kind's field", "serviceAccountName: api", "provider: local"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(podYAML, test.from, test.to, 1)
			if text == podYAML {
				t.Fatalf("%q is not in the manifest", test.from)
			}
			if _, err := manifests.Open(directory(t, "pod.yaml", text)); err == nil {
				t.Errorf("Open(%q for %q) = nil, want an error", test.to, test.from)
			}
		})
	}
}

// A file that was never meant for this directory may hold a secret.
func TestErrorsDoNotRepeatDocuments(t *testing.T) {
	const canary = "Xcanary7"
	for name, text := range map[string]string{
		"a Secret":        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {password: " + canary + "}\n",
		"no kind":         "password: " + canary + "\n",
		"no kind, JSON":   `{"password":"` + canary + `"}`,
		"unknown field":   namespaceYAML + "password: " + canary + "\n",
		"text":            canary + "\n",
		"list":            "- " + canary + "\n",
		"broken":          "password: [" + canary + "\n",
		"broken JSON":     `{"password":"` + canary,
		"kubeconfig-like": "apiVersion: v1\nkind: Config\nusers: [{name: a, user: {token: " + canary + "}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifests.Open(directory(t, "x.yaml", text))
			if err == nil {
				t.Fatal("Open(...) = nil, want an error")
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
				t.Errorf("Open(...) = %v, want no content", err)
			}
		})
	}
}

// A ConfigMap volume reaches its files through links of its own.
func TestLinksInside(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026_01_15"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "..2026_01_15", "ns.yaml"), namespaceYAML)
	for link, target := range map[string]string{"..data": "..2026_01_15", "ns.yaml": "..data/ns.yaml"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, dir).Namespace(t.Context(), "payments"); err != nil {
		t.Errorf("Namespace(...) through links = %v, want no error", err)
	}
}

// Directories below are not read: their names say nothing here.
func TestSubdirectoriesAreNotRead(t *testing.T) {
	dir := directory(t, "ns.yaml", namespaceYAML)
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "more", "sa.yaml"), accountYAML)
	if _, err := open(t, dir).ServiceAccount(t.Context(), "payments", "api"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("ServiceAccount(of a subdirectory) = %v, want kube.ErrNotFound", err)
	}
}

// Aliases that multiply must not fill the memory.
func TestAliasBomb(t *testing.T) {
	var text strings.Builder
	text.WriteString("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := range 9 {
		fmt.Fprintf(&text, "    x%d: &x%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i), 10), ", "))
	}
	if _, err := manifests.Open(directory(t, "x.yaml", text.String())); err == nil {
		t.Error("Open(alias bomb) = nil, want an error")
	}
}

// Readers beside an editor see one object or the other, never half of one and
// never a mix.
func TestConcurrentReadersSeeWholeObjects(t *testing.T) {
	dir := directory(t, "ns.yaml", labelled(0))
	d := open(t, dir)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := d.Namespace(t.Context(), "payments")
				if err != nil || got.Labels["a"] != got.Labels["b"] {
					t.Errorf("Namespace(...) = %v, %v, want two equal labels", got, err)
					return
				}
				got.Labels["a"] = "changed by its owner"
			}
		})
	}
	for i := range 100 {
		// As editors and git do: a new file, renamed.
		write(t, filepath.Join(dir, "new"), labelled(i))
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "ns.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

func labelled(i int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: payments, labels: {a: \"%d\", b: \"%d\"}}\n", i, i)
}

func TestUseAfterClose(t *testing.T) {
	d, err := manifests.Open(directory(t, "ns.yaml", namespaceYAML))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Namespace(t.Context(), "payments"); err == nil || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Namespace after Close = %v, want an error that is not kube.ErrNotFound", err)
	}
}

// The errors of missing objects name them, for the people who write manifests.
func TestNotFoundNamesTheObject(t *testing.T) {
	d := open(t, directory(t, "ns.yaml", namespaceYAML))
	_, err := d.Class(t.Context(), "payments", "db")
	const want = `SecretProviderClass "db" in namespace "payments": not found`
	if err == nil || err.Error() != want {
		t.Errorf("Class(...) = %v, want %q", err, want)
	}
}
