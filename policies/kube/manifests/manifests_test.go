package manifests_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

const (
	podYAML = `apiVersion: v1
kind: Pod
metadata: {name: api-0, namespace: payments, uid: 11111111-1111-4111-8111-111111111111}
spec:
  serviceAccountName: api
  securityContext: {fsGroup: 2000}
  containers: [{name: main, image: x, volumeMounts: [{name: secrets, mountPath: /s}]}]
  volumes:
  - name: secrets
    csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: db}}
`
	namespaceYAML = "apiVersion: v1\nkind: Namespace\nmetadata: {name: payments, labels: {team: payments}}\n"
	accountYAML   = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: api, namespace: payments}\n"
	classYAML     = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db, namespace: payments}
spec:
  provider: local
  parameters:
    objects: |
      - objectName: a
`
)

// directory writes files, given as name and text in turn.
func directory(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i+1 < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *manifests.Directory {
	t.Helper()
	d, err := manifests.Open(dir)
	if err != nil {
		t.Fatalf("Open(...) = %v, want no error", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close() = %v, want no error", err)
		}
	})
	return d
}

func all() string {
	return strings.Join([]string{podYAML, namespaceYAML, accountYAML, classYAML}, "---\n")
}

func TestReadsEveryKind(t *testing.T) {
	for name, files := range map[string][]string{
		"one file":       {"all.yaml", all()},
		"files":          {"a.yaml", podYAML, "b.yml", namespaceYAML, "c.yaml", accountYAML, "d.yaml", classYAML},
		"comments":       {"all.yaml", "# the lot\n---\n" + all() + "---\n# end\n---\n"},
		"other files":    {"all.yaml", all(), "README.md", "kind: Nonsense", "x.yaml~", "kind: Nonsense"},
		"JSON namespace": {"a.json", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"payments","labels":{"team":"payments"}}}`, "b.yaml", podYAML + "---\n" + accountYAML + "---\n" + classYAML},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, directory(t, files...))
			pod, err := d.Pod(t.Context(), "payments", "api-0", "")
			if err != nil || *pod.Spec.SecurityContext.FSGroup != 2000 || !*pod.Spec.Volumes[0].CSI.ReadOnly {
				t.Errorf("Pod(...) = %+v, %v, want the manifest's", pod, err)
			}
			namespace, err := d.Namespace(t.Context(), "payments")
			if err != nil || namespace.Labels["team"] != "payments" {
				t.Errorf("Namespace(...) = %+v, %v, want the manifest's", namespace, err)
			}
			account, err := d.ServiceAccount(t.Context(), "payments", "api")
			if err != nil || account.Name != "api" {
				t.Errorf("ServiceAccount(...) = %+v, %v, want the manifest's", account, err)
			}
			class, err := d.Class(t.Context(), "payments", "db")
			if err != nil || class.Spec.Provider != "local" || class.Spec.Parameters["objects"] != "- objectName: a\n" {
				t.Errorf("Class(...) = %+v, %v, want the manifest's", class, err)
			}
		})
	}
}

// Nothing is made up: not even a namespace that has pods.
func TestNotFound(t *testing.T) {
	d := open(t, directory(t, "pod.yaml", podYAML))
	for name, get := range map[string]func(context.Context) error{
		"pod of another name":      func(ctx context.Context) error { _, err := d.Pod(ctx, "payments", "x", ""); return err },
		"pod of another namespace": func(ctx context.Context) error { _, err := d.Pod(ctx, "shop", "api-0", ""); return err },
		"namespace":                func(ctx context.Context) error { _, err := d.Namespace(ctx, "payments"); return err },
		"service account":          func(ctx context.Context) error { _, err := d.ServiceAccount(ctx, "payments", "api"); return err },
		"class":                    func(ctx context.Context) error { _, err := d.Class(ctx, "payments", "api-0"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if err := get(t.Context()); !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("get = %v, want kube.ErrNotFound", err)
			}
		})
	}
}

// What an API server would refuse or drop is an error that names the file.
func TestRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, problem string }{
		{"unknown kind", "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\n", "is not a v1 Pod"},
		{"unknown version", strings.Replace(classYAML, "k8s.io/v1", "k8s.io/v2", 1), "is not a v1 Pod"},
		{"no kind", "apiVersion: v1\na: b\n", "has no apiVersion or no kind"},
		{"no version", "kind: Pod\na: b\n", "has no apiVersion or no kind"},
		{"not an object", "- a\n", ""},
		{"invalid YAML", "kind: [\n", ""},
		{"unknown field", strings.Replace(podYAML, "readOnly", "readonly", 1), `unknown field`},
		{"misspelt field", strings.Replace(podYAML, "fsGroup", "fsgroup", 1), `unknown field`},
		{"field twice", namespaceYAML + "kind: Namespace\n", ""},
		{"wrong type", strings.Replace(podYAML, "2000", "high", 1), ""},
		{"object twice", namespaceYAML + "---\n" + namespaceYAML, "is also in"},
		{"no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", "metadata.name"},
		{"odd name", "apiVersion: v1\nkind: Namespace\nmetadata: {name: ../x}\n", "metadata.name"},
		{"no namespace", strings.Replace(accountYAML, ", namespace: payments", "", 1), "metadata.namespace"},
		{"namespaced namespace", strings.Replace(namespaceYAML, "name:", "namespace: x, name:", 1), "metadata.namespace"},
		{"too large", "#" + strings.Repeat("x", 1<<20), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := manifests.Open(directory(t, "bad.yaml", test.text))
			if err == nil || !strings.Contains(err.Error(), test.problem) || !strings.Contains(err.Error(), "bad.yaml") {
				t.Errorf("Open(...) = %v, want an error about bad.yaml and %q", err, test.problem)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	for i := range 257 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), "")
	}
	if _, err := manifests.Open(dir); err == nil || !strings.Contains(err.Error(), "more than 256 files") {
		t.Errorf("Open(257 files) = %v, want an error", err)
	}
	dir = t.TempDir()
	for i := range 17 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), "#"+strings.Repeat("x", 1<<20-1))
	}
	if _, err := manifests.Open(dir); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("Open(17 MiB) = %v, want an error", err)
	}
}

func TestOpenRefusesMissingDirectory(t *testing.T) {
	if _, err := manifests.Open(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open(absent) = %v, want os.ErrNotExist", err)
	}
}

func TestLinksStayInside(t *testing.T) {
	outside := directory(t, "pod.yaml", podYAML)
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(outside, "pod.yaml"), filepath.Join(dir, "pod.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := manifests.Open(dir); err == nil {
		t.Error("Open(link to the outside) = nil, want an error")
	}
}

// Opening a FIFO waits for its writer; a directory is no manifest either.
func TestOnlyRegularFiles(t *testing.T) {
	for name, create := range map[string]func(string) error{
		"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := create(filepath.Join(dir, "x.yaml")); err != nil {
				t.Fatal(err)
			}
			done := beside(func() error { _, err := manifests.Open(dir); return err })
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), "not a regular file") {
					t.Errorf("Open(...) = %v, want an error about a regular file", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("Open(...) still waits after 10 s")
			}
		})
	}
}

// beside runs f beside the test.
func beside(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// A change is seen by the next call, also one of the same length and time.
func TestSeesChanges(t *testing.T) {
	dir := directory(t, "ns.yaml", namespaceYAML)
	path := filepath.Join(dir, "ns.yaml")
	d := open(t, dir)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(namespaceYAML, "team: payments", "team: PAYMENTS", 1))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Namespace(t.Context(), "payments"); err != nil || got.Labels["team"] != "PAYMENTS" {
		t.Errorf("Namespace after a change = %+v, %v, want the new label", got, err)
	}
	write(t, filepath.Join(dir, "more.yaml"), accountYAML)
	if _, err := d.ServiceAccount(t.Context(), "payments", "api"); err != nil {
		t.Errorf("ServiceAccount of a new file = %v, want no error", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Namespace(t.Context(), "payments"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Namespace of a removed file = %v, want kube.ErrNotFound", err)
	}
	write(t, path, "kind: [")
	if _, err := d.ServiceAccount(t.Context(), "payments", "api"); err == nil || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("ServiceAccount beside a broken file = %v, want an error that is not kube.ErrNotFound", err)
	}
}

func TestObjectsAreTheCallersOwn(t *testing.T) {
	d := open(t, directory(t, "ns.yaml", namespaceYAML))
	first, err := d.Namespace(t.Context(), "payments")
	if err != nil {
		t.Fatal(err)
	}
	first.Labels["team"] = "changed"
	second, err := d.Namespace(t.Context(), "payments")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"team": "payments"}, second.Labels); diff != "" {
		t.Errorf("labels after a change of another copy differ (-want +got):\n%s", diff)
	}
}

func TestEndedContext(t *testing.T) {
	d := open(t, directory(t, "ns.yaml", namespaceYAML))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Namespace(ctx, "payments"); !errors.Is(err, context.Canceled) {
		t.Errorf("Namespace(ended context) = %v, want context.Canceled", err)
	}
}

func FuzzManifests(f *testing.F) {
	f.Add(all())
	f.Add("---\n---\n")
	f.Add("apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, namespace: b}\nspec: *m\n")
	f.Add(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`)
	for _, trick := range tricks() {
		if len(trick.text) < 2000 {
			f.Add(trick.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := manifests.Open(directory(t, "x.yaml", text))
		if err != nil {
			return
		}
		defer d.Close()
		for _, name := range []string{"api-0", "a", ""} {
			pod, err := d.Pod(t.Context(), "payments", name, "")
			if err == nil && (pod.Name != name || pod.Namespace != "payments") {
				t.Errorf("Pod(payments, %q) = %s/%s, want the same", name, pod.Namespace, pod.Name)
			}
			if err != nil && !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("Pod(payments, %q) = %v, want kube.ErrNotFound", name, err)
			}
			if err == nil && !strings.Contains(text, "---") {
				sameAsKubernetes(t, text, pod)
			}
		}
	})
}

// sameAsKubernetes compares a pod with what the library of kubectl and of the
// API server makes of the same text.
func sameAsKubernetes(t *testing.T, text string, pod *corev1.Pod) {
	t.Helper()
	var want corev1.Pod
	if err := sigsyaml.UnmarshalStrict([]byte(text), &want); err != nil {
		t.Errorf("Open(%q) = nil, Kubernetes says %v", text, err)
	}
	if diff := cmp.Diff(&want, pod); diff != "" {
		t.Errorf("pod of %q differs (-Kubernetes +directory):\n%s", text, diff)
	}
}

func BenchmarkPod(b *testing.B) {
	d := open(b, directory(b, "a.yaml", podYAML, "b.yaml", namespaceYAML, "c.yaml", accountYAML, "d.yaml", classYAML))
	for b.Loop() {
		if _, err := d.Pod(b.Context(), "payments", "api-0", ""); err != nil {
			b.Fatalf("Pod(...) = %v, want no error", err)
		}
	}
}

func TestPodExists(t *testing.T) {
	dir := directory(t, "pod.yaml", podYAML)
	d, err := manifests.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for uid, want := range map[string]bool{"11111111-1111-4111-8111-111111111111": true, "22222222-2222-4222-8222-222222222222": false, "": false} {
		if got, err := d.PodExists(t.Context(), uid); err != nil || got != want {
			t.Errorf("PodExists(%q) = %t, %v, want %t", uid, got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.PodExists(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("PodExists() of a caller who gave up = %v, want %v", err, context.Canceled)
	}
	write(t, filepath.Join(dir, "pod.yaml"), "}{")
	if _, err := d.PodExists(t.Context(), ""); err == nil {
		t.Error("PodExists() of files that cannot be read = nil, want an error: no answer is not an absence")
	}
}
