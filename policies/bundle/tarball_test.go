package bundle_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	opabundle "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// rich is a bundle with every kind of file.
func rich(t testing.TB) policies.Bundle {
	t.Helper()
	selected := strings.Replace(full, `namespaces: [payments, "orders"]`, "namespaceSelector: {tier: prod, example.com/team: pay}", 1)
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants,
		policiestest.WithFile("portcullis/grants/named.yaml", strings.Replace(full, "G-1", "G-2", 1)),
		policiestest.WithFile("portcullis/grants/selected.yaml", strings.Replace(selected, "G-1", "G-3", 1)),
		policiestest.WithWaivers(strings.Replace(waiver, "2026-12-31", "2026-03-31", 1)),
		policiestest.WithConfig("namespace_label_keys: [tier, example.com/team]\nchecks: {odd: {list: [1, a, true], big: 9007199254740993}}\n"),
		policiestest.WithCheck("odd", check),
	))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(t testing.TB, b policies.Bundle) []byte {
	t.Helper()
	var w bytes.Buffer
	if err := bundle.WriteTarball(&w, b); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

// TestTarballIsTheBundle: what is written and read back is the same, to the
// digest, and equal bundles give equal bytes.
func TestTarballIsTheBundle(t *testing.T) {
	b := rich(t)
	text := packed(t, b)
	if again := packed(t, rich(t)); !bytes.Equal(text, again) {
		t.Error("WriteTarball() of equal bundles differs")
	}
	got, err := bundle.ReadTarball(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != b.Digest || got.Manifest != b.Manifest || got.Signed {
		t.Errorf("ReadTarball() = %q %+v, want %q %+v, unsigned", got.Digest, got.Manifest, b.Digest, b.Manifest)
	}
	if diff := cmp.Diff(b.Data, got.Data) + cmp.Diff(b.Modules, got.Modules); diff != "" {
		t.Errorf("ReadTarball() has other content (-want +got):\n%s", diff)
	}
	if again := packed(t, got); !bytes.Equal(text, again) {
		t.Error("WriteTarball() of what was read differs")
	}
	if grants := bundle.Grants(got); len(grants) != 3 || grants[2].ID != "G-3" || grants[1].Expiry != "2026-12-31" || *grants[1].MaxFileMode != "0440" {
		t.Errorf("Grants() = %+v, want those that were written", grants)
	}
	if waivers := bundle.Waivers(got); len(waivers) != 1 || waivers[0].Expiry != "2026-03-31" || waivers[0].Finding != "PR-300" {
		t.Errorf("Waivers() = %+v, want the one that was written", waivers)
	}
	e, err := policies.Compile(t.Context(), got, policies.Options{Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	if d := e.Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
		t.Errorf("Decide() by the tarball = %v (%v), want allow", d.Verdict(), d.Deny)
	}
}

// TestWhatIsEscapedStaysSo: texts that authors may only write as escapes go
// through an archive unharmed, and are escapes in it.
func TestWhatIsEscapedStaysSo(t *testing.T) {
	odd := `"a\u202eb\u0085c\u2028d\U000e0041e\x7ff\ng<h>&"`
	b := load(t, policiestest.Grants+"  scoping: {cert: "+odd+"}\n", policiestest.WithConfig("checks: {odd: {a: "+odd+"}}"))
	text := packed(t, b)
	got, err := bundle.ReadTarball(bytes.NewReader(text))
	if err != nil || got.Digest != b.Digest {
		t.Fatalf("ReadTarball() = %q, %v, want %q", got.Digest, err, b.Digest)
	}
	want := map[string]string{"cert": "a\u202eb\u0085c\u2028d\U000e0041e\x7ff\ng<h>&"}
	if diff := cmp.Diff(want, bundle.Grants(got)[0].Scoping); diff != "" {
		t.Errorf("scoping differs (-want +got):\n%s", diff)
	}
	if strings.ContainsAny(string(unzip(t, text)), "\u202e\u0085\u2028\x7f") {
		t.Error("the archive holds characters that nobody sees")
	}
}

// TestStockOPAReadsTarballs: nothing in them is ours alone.
func TestStockOPAReadsTarballs(t *testing.T) {
	b, err := opabundle.NewReader(bytes.NewReader(packed(t, rich(t)))).Read()
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Modules) != 1 || *b.Manifest.RegoVersion != 1 || b.Manifest.Metadata["contract"] != policies.Contract {
		t.Fatalf("OPA reads %d modules, manifest %+v", len(b.Modules), b.Manifest)
	}
	for _, path := range [][]string{
		{"portcullis", "grants", "by_subject", "payments/api", "local://node/payments/"},
		{"portcullis", "waivers", "by_finding", "PR-300", "payments/api"},
		{"portcullis", "config", "namespace_label_keys"},
	} {
		var value any = b.Data
		for _, key := range path {
			object, _ := value.(map[string]any)
			value = object[key]
		}
		if list, ok := value.([]any); !ok || len(list) == 0 {
			t.Errorf("OPA reads %v at %s, want a list", value, path)
		}
	}
}

func TestOpenReadsBothForms(t *testing.T) {
	b := rich(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "bundle.tar.gz")
	if err := bundle.WriteFile(path, b, false); err != nil {
		t.Fatal(err)
	}
	if got, err := bundle.Open(path); err != nil || got.Digest != b.Digest {
		t.Errorf("Open(tarball) = %q, %v, want %q", got.Digest, err, b.Digest)
	}
	if got, err := bundle.Path(path).Load(t.Context()); err != nil || got.Digest != b.Digest || got.Signed {
		t.Errorf("Path.Load(tarball) = %q, signed %v, %v, want %q, unsigned", got.Digest, got.Signed, err, b.Digest)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: "neither a directory nor a file", filepath.Join(dir, "none"): "no such file", "/dev/null": "neither"} {
		if _, err := bundle.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want %q", path, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("WriteFile() left %v, %v, want the bundle alone beside the FIFO", entries, err)
	}
}

func TestWriteFileOverwritesNothingUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := bundle.WriteFile(path, rich(t), false); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("WriteFile() = %v, want ErrExists", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("WriteFile() left %q, %v, want the file as it was", text, err)
	}
	if err := bundle.WriteFile(path, rich(t), true); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Open(path); err != nil {
		t.Errorf("Open() of what was overwritten = %v", err)
	}
	if err := bundle.WriteFile(filepath.Join(path, "x"), rich(t), false); err == nil {
		t.Error("WriteFile(below a file) = nil, want an error")
	}
	if err := bundle.WriteFile(path, policies.Bundle{}, true); err == nil {
		t.Error("WriteFile(zero bundle) = nil, want an error")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("WriteFile() left %v, %v, want one file", entries, err)
	}
}

// FuzzReadTarball: whatever the bytes, reading ends, and what is read is written
// back with the same digest. The fuzzer gets the archive without compression, or
// it would seldom come past its checksum.
func FuzzReadTarball(f *testing.F) {
	good := packed(f, load(f, policiestest.Grants))
	f.Add(unzip(f, good))
	f.Add(unzip(f, archive(f, []file{{"portcullis/grants/data.json", "{}", nil}, {".manifest", "{}", nil}})))
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, text := range [][]byte{raw, zip(t, raw)} {
			b, err := bundle.ReadTarball(bytes.NewReader(text))
			if err != nil {
				continue
			}
			again, err := bundle.ReadTarball(bytes.NewReader(packed(t, b)))
			if err != nil || again.Digest != b.Digest {
				t.Errorf("ReadTarball(what was read and written) = %q, %v, want %q", again.Digest, err, b.Digest)
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(b.Modules)), slices.Sorted(maps.Keys(again.Modules))); diff != "" {
				t.Errorf("modules differ:\n%s", diff)
			}
		}
	})
}
