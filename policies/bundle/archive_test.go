package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// file is one entry of an archive that a test makes.
type file struct {
	name, text string
	change     func(*tar.Header)
}

// filesOf unpacks a good tarball.
func filesOf(t testing.TB, text []byte) []file {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{name: h.Name, text: string(content)})
	}
}

// archive packs files as they are, whatever they are.
func archive(t testing.TB, files []file) []byte {
	t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.text)), Mode: 0o644}
		if f.change != nil {
			f.change(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, f.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return zip(t, raw.Bytes())
}

func zip(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unzip(t testing.TB, text []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// with returns the files of a good bundle, one more or one in place of another.
func with(t testing.TB, f file) []byte {
	t.Helper()
	files := filesOf(t, packed(t, rich(t)))
	if i := slices.IndexFunc(files, func(g file) bool { return g.name == f.name }); i >= 0 && f.change == nil {
		files[i] = f
		return archive(t, files)
	}
	return archive(t, append(files, f))
}

func typed(flag byte) func(*tar.Header) {
	return func(h *tar.Header) {
		h.Typeflag, h.Size, h.Linkname = flag, 0, "/etc/hostname"
		if flag == tar.TypeDir {
			h.Linkname = ""
		}
	}
}

// TestArchivesThatAreRefused: an archive is what policy build writes, or nothing.
func TestArchivesThatAreRefused(t *testing.T) {
	goodText := packed(t, rich(t))
	if _, err := bundle.ReadTarball(bytes.NewReader(archive(t, filesOf(t, goodText)))); err != nil {
		t.Fatalf("ReadTarball(the same files packed by another) = %v, want nil: the table proves nothing", err)
	}
	raw := unzip(t, goodText)
	const odd = "portcullis/checks/odd/more.rego"
	tests := map[string]struct {
		text []byte
		want string
	}{
		"nothing":            {nil, "not a tar.gz"},
		"text":               {[]byte("package main"), "not a tar.gz"},
		"tar alone":          {raw, "not a tar.gz"},
		"no archive":         {zip(t, []byte(strings.Repeat("x", 2000))), "unpack"},
		"empty archive":      {archive(t, nil), `".manifest" is missing`},
		"cut":                {goodText[:len(goodText)/2], "unpack"},
		"cut before its sum": {goodText[:len(goodText)-4], "unpack"},
		"trailing byte":      {append(slices.Clone(goodText), 0), "data follows the compressed"},
		"second stream":      {append(slices.Clone(goodText), goodText...), "data follows the compressed"},
		"second archive":     {zip(t, append(slices.Clone(raw), raw...)), "data follows the end"},
		"symbolic link":      {with(t, file{"portcullis/grants/data.json", "", typed(tar.TypeSymlink)}), "not a regular file"},
		"hard link":          {with(t, file{odd, "", typed(tar.TypeLink)}), "not a regular file"},
		"device":             {with(t, file{odd, "", typed(tar.TypeChar)}), "not a regular file"},
		"FIFO":               {with(t, file{odd, "", typed(tar.TypeFifo)}), "not a regular file"},
		"directory":          {with(t, file{"portcullis/", "", typed(tar.TypeDir)}), "not a regular file"},
		"twice":              {with(t, file{".manifest", "{}", func(*tar.Header) {}}), "is there twice"},
		"extended header":    {with(t, file{odd, "", func(h *tar.Header) { h.PAXRecords = map[string]string{"comment": "x"} }}), "extended or foreign header"},
		"header of GNU":      {with(t, file{odd, "", func(h *tar.Header) { h.Format = tar.FormatGNU }}), "extended or foreign header"},
		"absolute":           {with(t, file{"/.manifest", "{}", nil}), "no place"},
		"dot":                {with(t, file{"./.manifest", "{}", nil}), "no place"},
		"dot-dot":            {with(t, file{"portcullis/../.manifest", "{}", nil}), "no place"},
		"backslash":          {with(t, file{`portcullis\grants\data.json`, "{}", nil}), "no place"},
		"authors' grants":    {with(t, file{"portcullis/grants/a.yaml", "[]", nil}), "no place"},
		"authors' config":    {with(t, file{"portcullis/config/data.yaml", "{}", nil}), "no place"},
		"tests":              {with(t, file{"portcullis/checks/odd/odd_test.rego", "", nil}), "no place"},
		"second module":      {with(t, file{odd, check, nil}), "no place"},
		"wasm":               {with(t, file{"policy.wasm", "", nil}), "no place"},
		"signatures":         {with(t, file{".signatures.json", "{}", nil}), "no place"},
		"patch":              {with(t, file{"patch.json", "{}", nil}), "no place"},
		"data at the root":   {with(t, file{"data.json", "{}", nil}), "no place"},
		"large file":         {with(t, file{"portcullis/checks/odd/odd.rego", strings.Repeat("#", 4<<20+1), nil}), "larger than"},
		"hidden text":        {with(t, file{"portcullis/checks/odd/odd.rego", check + "# \u202e\n", nil}), "cannot be seen"},
		"manifest with zone": {with(t, file{".manifest", `{"metadata":{"contract":"portcullis/v1"}}`, nil}), `".manifest" is missing or not as`},
		"config with spaces": {with(t, file{"portcullis/config/data.json", `{ "namespace_label_keys": ["tier", "example.com/team"]}`, nil}), "not as policy build writes it"},
		"no grants":          {with(t, file{"portcullis/grants/data.json", "{}\n", nil}), "not as policy build writes it"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if b, err := bundle.ReadTarball(bytes.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) || b.Digest != "" {
				t.Errorf("ReadTarball(%s) = %q, %v, want an error with %q", name, b.Digest, err, tt.want)
			}
		})
	}
}

// TestIndexThatNobodyCouldWrite: the index of a tarball has to pass what an
// author's grants have to pass.
func TestIndexThatNobodyCouldWrite(t *testing.T) {
	files := filesOf(t, packed(t, rich(t)))
	i := slices.IndexFunc(files, func(f file) bool { return f.name == "portcullis/grants/data.json" })
	w := slices.IndexFunc(files, func(f file) bool { return f.name == "portcullis/waivers/data.json" })
	for _, change := range []struct {
		at       int
		old, new string
	}{
		{i, `"orders/api"`, `"*/api"`},
		{i, `"orders/api"`, `"kube-system/api"`}, // a subject with a part of the grant's accounts
		{i, `"orders/api":`, `"orders/*":`},
		{i, `"orders/api":`, `"label:owner=me/api":`},
		{i, `"local://node/a":`, `"local://node/":`},
		{i, `"local://node/a":`, `"vault://node/a":`},
		{i, `"owner":"team-payments"`, `"owner":""`},
		{i, `"owner":"team-payments"`, `"owner":"someone"`}, // one id, two owners
		{i, `"not_after_ns":1798761600000000000`, `"not_after_ns":1798761600000000001`},
		{i, `"not_after_ns":1798761600000000000`, `"not_after_ns":0`},
		{i, `"max_file_mode":288`, `"max_file_mode":511`},
		{i, `"owner_uid":1000`, `"owner_uid":-1`},
		{i, `"audiences":["vault"]`, `"audiences":[]`},
		{i, `"scoping":{"role":"reader"}`, `"scoping":null`},
		{i, `"namespace_labels":{"example.com/team":"pay","tier":"prod"}`, `"namespace_labels":{"tier":"prod"}`},
		{i, `"provider":"local"`, `"provider":"local","everything":true`},
		{i, `"name_patterns":["api-*"]`, `"name_patterns":["*"]`},
		{i, `{"by_subject":`, `{"By_subject":{},"by_subject":`},
		{i, `{"by_subject":`, `{"by_subject":{},"by_subject":`},
		{i, "}\n", "} {}\n"},
		{w, "PR-300", "PR-001"},
		{w, `"payments/api"`, `"*/api"`},
		{w, `"ticket":"SEC-1"`, `"ticket":""`},
		{w, `"local://node/a"`, `""`},
	} {
		changed := slices.Clone(files)
		changed[change.at].text = strings.Replace(files[change.at].text, change.old, change.new, 1)
		if changed[change.at].text == files[change.at].text {
			t.Fatalf("the index has no %s", change.old)
		}
		if b, err := bundle.ReadTarball(bytes.NewReader(archive(t, changed))); err == nil {
			t.Errorf("ReadTarball(%s for %s) = %q, want a refusal", change.new, change.old, b.Digest)
		}
	}
}
