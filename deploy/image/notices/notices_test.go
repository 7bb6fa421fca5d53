package notices_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
	"github.com/portcullis-csi/portcullis/deploy/image/notices"
	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
)

// jsonLicence is the MIT licence but for one sentence, which makes it one that
// nobody can promise to keep.
const jsonLicence = `Copyright (c) 2002 JSON.org

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of
the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

The Software shall be used for Good, not Evil.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN
AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

// goLicence is the text of the toolchain's own licence, BSD-3-Clause.
func goLicence(t *testing.T) string {
	t.Helper()
	s, err := compile.Open(t.Context(), "../../..", "1")
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.Goroot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tree makes a module's directory and the standard library's.
func tree(t *testing.T, files map[string]string) (module, goroot string) {
	t.Helper()
	module, goroot = filepath.Join(t.TempDir(), "m"), t.TempDir()
	sourcetest.Write(t, filepath.Join(goroot, "LICENSE"), goLicence(t))
	sourcetest.Write(t, filepath.Join(module, "m.go"), "package m\n")
	for name, text := range files {
		sourcetest.Write(t, filepath.Join(module, name), text)
	}
	return module, goroot
}

// linked returns a package of the module example.com/m, and one of the library.
func linked(module, dir string) []compile.Linked {
	p := compile.Linked{ImportPath: "example.com/m/p", Dir: filepath.Join(module, dir)}
	p.Module = &struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}{Path: "example.com/m", Version: "v1.0.0", Dir: module}
	return []compile.Linked{p, {ImportPath: "fmt", Dir: "/ignored", Standard: true}}
}

func TestCollectFindsEveryText(t *testing.T) {
	bsd := goLicence(t)
	module, goroot := tree(t, map[string]string{
		"LICENSE.md": bsd, "NOTICE": "a notice of m\n", "p/p.go": "package p\n", "p/COPYING": bsd + "\n\n",
		"unlinked/LICENSE": "never read", "license.go": "package m\n",
	})
	modules, err := notices.Collect(linked(module, "p"), goroot)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		got = append(got, m.Path+" "+m.Version+" "+strings.Join(m.Licenses, ","))
	}
	if diff := cmp.Diff([]string{"example.com/m v1.0.0 BSD-3-Clause", "std  BSD-3-Clause"}, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	text := string(notices.Text(modules))
	for _, want := range []string{"example.com/m v1.0.0: LICENSE.md\nstd: LICENSE\n", "example.com/m v1.0.0: NOTICE\n", "a notice of m", "example.com/m v1.0.0: p/COPYING\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("notices lack %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "never read") || strings.Contains(text, "license.go") {
		t.Errorf("notices hold what was not linked:\n%s", text)
	}
	if n := strings.Count(text, "Redistribution and use"); n != 2 {
		t.Errorf("the text that two share is there %d times, want once, and once more where it differs", n)
	}
}

func TestCollectRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no licence", nil, "no licence file"},
		{"a licence of the documentation alone", map[string]string{"LICENSE.docs": goLicence(t)}, "no licence file"},
		{"a notice alone", map[string]string{"NOTICE": goLicence(t)}, "no licence file"},
		{"words of one's own", map[string]string{"LICENSE": "you may look at it on Sundays\n"}, "known"},
		{"a licence with a condition of its own", map[string]string{"LICENSE": jsonLicence}, "not among the licences"},
		{"one such beside a good one", map[string]string{"LICENSE": goLicence(t), "p/LICENSE": jsonLicence, "p/p.go": "package p\n"}, "not among the licences"},
	} {
		t.Run(c.name, func(t *testing.T) {
			module, goroot := tree(t, c.files)
			dir := ""
			if c.files["p/p.go"] != "" {
				dir = "p"
			}
			got, err := notices.Collect(linked(module, dir), goroot)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "example.com/m v1.0.0") {
				t.Errorf("Collect = %v, %v, want an error that names the module and %q", got, err, c.want)
			}
		})
	}
	if _, err := notices.Collect([]compile.Linked{{ImportPath: "a"}}, t.TempDir()); err == nil {
		t.Error("Collect of a package of no module is accepted")
	}
}

// Who gets a binary with files under the MPL is told where their source is. What
// nobody published cannot be offered like that.
func TestSourceIsOffered(t *testing.T) {
	mpl := "This Source Code Form is subject to the terms of the Mozilla Public\nLicense, v. 2.0. If a copy of the MPL was not distributed with this\nfile, You can obtain one at http://mozilla.org/MPL/2.0/.\n"
	module, goroot := tree(t, map[string]string{"LICENSE": mpl})
	packages := linked(module, "")
	packages[0].Module.Path = "example.com/Upper"
	modules, err := notices.Collect(packages, goroot)
	if err != nil {
		t.Fatal(err)
	}
	text := string(notices.Text(modules))
	if want := "The source of example.com/Upper v1.0.0, unchanged, is at\nhttps://pkg.go.dev/example.com/Upper@v1.0.0\n"; strings.Count(text, "unchanged, is at") != 1 || !strings.Contains(text, want) {
		t.Errorf("notices lack %q, once:\n%s", want, text)
	}
	packages[0].Module.Version = ""
	if _, err := notices.Collect(packages, goroot); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("Collect of MPL code without a version = %v, want it refused with a hint", err)
	}
}

func TestCollectStaysInTheModule(t *testing.T) {
	module, goroot := tree(t, map[string]string{"LICENSE": goLicence(t)})
	packages := linked(module, "..")
	if _, err := notices.Collect(packages, goroot); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("Collect of a package outside of its module = %v", err)
	}
}

// What the product links today has licences, and the list names the replaced
// module where one is replaced.
func TestCollectOfTheProduct(t *testing.T) {
	s, err := compile.Open(t.Context(), "../../..", "1")
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := s.Goroot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range compile.Targets() {
		packages, err := s.Packages(t.Context(), target, "portcullis", "portcullis-node", "portcullis-provider-local", "portcullis-webhook")
		if err != nil {
			t.Fatal(err)
		}
		modules, err := notices.Collect(packages, goroot)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{compile.Module, "std", "google.golang.org/grpc", "github.com/open-policy-agent/opa", "k8s.io/client-go"} {
			if !slices.ContainsFunc(modules, func(m notices.Module) bool { return m.Path == path && len(m.Licenses) > 0 }) {
				t.Errorf("for %s no licence of %s was found", target, path)
			}
		}
	}
}
