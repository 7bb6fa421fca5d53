package workload_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

func TestParseSkipsOtherKindsAndCountsThem(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\n"
	const crd = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: api}\n"
	o := parse(t, "# a comment", service, podManifest("{name: api-0}"), strings.Replace(service, "api}", "web}", 1), crd)
	if diff := cmp.Diff(map[string]int{"Service": 2, "Thing.example.com": 1}, o.Ignored); diff != "" {
		t.Errorf("Ignored differs (-want +got):\n%s", diff)
	}
	if w := o.Workloads(); len(w) != 1 || w[0].Name != "api-0" || w[0].Source != "test.yaml" {
		t.Errorf("Workloads() = %v, want api-0 of test.yaml", w)
	}
}

func TestParseReadsLists(t *testing.T) {
	const list = `{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[]}},
{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","namespace":"shop"},"spec":{"containers":[]}}]},
{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}}]}`
	o := parse(t, list)
	var got []string
	for _, w := range o.Workloads() {
		got = append(got, w.Namespace+"/"+w.Name)
	}
	if diff := cmp.Diff([]string{"payments/a", "shop/b"}, got); diff != "" || o.Ignored["Service"] != 1 {
		t.Errorf("Workloads() differ (-want +got), ignored %v:\n%s", o.Ignored, diff)
	}
}

func TestParseRefuses(t *testing.T) {
	pod := podManifest("{name: api-0}")
	deep := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`
	for range 6 {
		deep = `{"apiVersion":"v1","kind":"List","items":[` + deep + `]}`
	}
	for name, test := range map[string]struct{ text, want string }{
		"no manifest":        {"just: text\n", "has no apiVersion or no kind"},
		"a list of YAML":     {"- a\n- b\n", "document 1"},
		"unknown field":      {strings.Replace(pod, "readOnly", "readonly", 1), `unknown field "spec.volumes[0].csi.readonly"`},
		"key written twice":  {strings.Replace(pod, "readOnly: true", "readOnly: true, readOnly: false", 1), "readOnly"},
		"wrong type":         {strings.Replace(pod, "fsGroup: 2000", "fsGroup: many", 1), "fsGroup"},
		"twice":              {pod + "\n---\n" + pod, `Pod "api-0" is also in "test.yaml"`},
		"dots":               {"# x\n...\n" + pod, "ends with ..."},
		"name":               {podManifest("{name: Api_0}"), "metadata.name"},
		"no name":            {podManifest("{labels: {}}"), "metadata.name"},
		"namespace":          {podManifest("{name: api-0, namespace: a/b}"), "metadata.namespace"},
		"namespace of a ns":  {strings.Replace(namespace, "{name: payments", "{name: payments, namespace: x", 1), "metadata.namespace"},
		"nested lists":       {deep, "nested"},
		"second document":    {pod + "\n---\nx: [\n", "document 2"},
		"a kind like a book": {"apiVersion: v1\nkind: " + strings.Repeat("K", 300) + "\n", "253"},
	} {
		_, err := workload.Parse([]workload.File{{Name: "test.yaml", Text: []byte(test.text)}}, "payments")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %v, want an error with %q", name, err, test.want)
		}
	}
	if _, err := workload.Parse(nil, "a/b"); err == nil {
		t.Error("Parse() of namespace a/b = nil, want an error")
	}
}

// What a manifest says must not reach a terminal as a command.
func TestErrorsHoldNoControls(t *testing.T) {
	text := strings.Replace(podManifest("{name: api-0}"), "readOnly", `"\e[2Jx\u202ey"`, 1)
	_, err := workload.Parse([]workload.File{{Name: "test.yaml", Text: []byte(text)}}, "payments")
	if err == nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsGraphic(r) }) {
		t.Errorf("Parse() = %q, want an error of graphic characters", err)
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	a := write(t, filepath.Join(dir, "a.yaml"), "a")
	b := write(t, filepath.Join(dir, "sub", "b.json"), "b")
	write(t, filepath.Join(dir, "README.md"), "no")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	other := write(t, filepath.Join(t.TempDir(), "named"), "c")
	files, err := workload.ReadFiles([]string{dir, other, "-"}, strings.NewReader("d"))
	want := []workload.File{{a, []byte("a")}, {b, []byte("b")}, {other, []byte("c")}, {"standard input", []byte("d")}}
	if diff := cmp.Diff(want, files); err != nil || diff != "" {
		t.Errorf("ReadFiles() = %v, want no error and (-want +got):\n%s", err, diff)
	}
}

func TestReadFilesRefuses(t *testing.T) {
	dir := t.TempDir()
	large := write(t, filepath.Join(dir, "large.yaml"), "")
	if err := os.Truncate(large, workload.MaxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "dev")
	if err := os.Symlink("/dev/null", socket); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		paths []string
		stdin io.Reader
		want  string
	}{
		"nothing there":   {[]string{filepath.Join(dir, "none")}, nil, "no such file"},
		"empty directory": {[]string{t.TempDir()}, nil, "has no .yaml"},
		"too large":       {[]string{large}, nil, "larger than 8 MiB"},
		"a device":        {[]string{socket}, nil, "not a regular file"},
		"stdin twice":     {[]string{"-", "-"}, strings.NewReader(""), "named twice"},
		"broken stdin":    {[]string{"-"}, iotest.ErrReader(errors.New("broken")), "broken"},
		"endless stdin":   {[]string{"-"}, endless{}, "larger than"},
	} {
		if _, err := workload.ReadFiles(test.paths, test.stdin); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: ReadFiles() = %v, want an error with %q", name, err, test.want)
		}
	}
}

// A FIFO in a directory has no writer: it must be passed by, not waited for.
func TestReadFilesPassesByFIFOs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "a")
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if files, err := workload.ReadFiles([]string{dir}, nil); err != nil || len(files) != 1 {
		t.Errorf("ReadFiles() = %d files, %v, want 1", len(files), err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("#"), len(p))), nil }

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		podManifest("{name: api-0}") + "---\n" + class, templated("apps/v1", "StatefulSet", "", 1), templated("batch/v1", "CronJob", "  jobTemplate:\n    spec:\n", 3),
		`{"apiVersion":"v1","kind":"List","items":[{}]}`, namespace + "---\n" + account, "a: &a [*a]\n", "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := workload.Parse([]workload.File{{Name: "fuzz", Text: text}}, "payments")
		if err != nil {
			return
		}
		for _, w := range o.Workloads() {
			for _, v := range circumstances(o).Volumes(t.Context(), w) {
				if v.Err == nil && v.Input.Validate() != nil {
					t.Errorf("Volumes() made an input that is out of bounds: %v", v.Input.Validate())
				}
			}
		}
	})
}
