package sbom_test

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
	"github.com/portcullis-csi/portcullis/deploy/image/notices"
	"github.com/portcullis-csi/portcullis/deploy/image/sbom"
	"github.com/portcullis-csi/portcullis/deploy/image/sbom/sbomtest"
)

// program is the image builder, which is linked from modules like any other.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sbom")
	if err == nil {
		program = filepath.Join(dir, "program")
		var out []byte
		if out, err = exec.Command("go", "build", "-trimpath", "-o", program, "..").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "build a program to describe:", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func self(t *testing.T) compile.Binary {
	t.Helper()
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 3 {
		t.Fatalf("the program links %d modules, want some to describe", len(info.Deps))
	}
	return compile.Binary{Name: "self", Path: program, SHA256: strings.Repeat("ab", 32), Info: info}
}

func subject() sbom.Subject {
	return sbom.Subject{
		Repository: "registry.example/a/p", Version: "1.2.3", Digest: "sha256:" + strings.Repeat("cd", 32), Arch: "amd64",
		Created: time.Unix(1700000000, 0).UTC(), Revision: strings.Repeat("e", 40),
	}
}

func document(t *testing.T, s sbom.Subject, modules []notices.Module, extras ...sbom.Extra) []byte {
	t.Helper()
	data, err := sbom.Document(s, []compile.Binary{self(t)}, modules, extras...)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDocumentIsValid(t *testing.T) {
	b := self(t)
	var modules []notices.Module
	for i, m := range b.Info.Deps {
		licenses := [][]string{{"MIT"}, {"Apache-2.0", "BSD-3-Clause"}, nil}[i%3]
		modules = append(modules, notices.Module{Path: m.Path, Version: m.Version, Licenses: licenses})
	}
	modules = append(modules, notices.Module{Path: notices.Standard, Licenses: []string{"BSD-3-Clause"}})
	data := document(t, subject(), modules, sbom.Extra{Name: "example.com/data", Version: "v1.0.0", Sum: b.Info.Deps[0].Sum, License: "MPL-2.0", Description: "data"})
	sbomtest.Validate(t, data)
	for _, want := range []string{`"expression": "Apache-2.0 AND BSD-3-Clause"`, `"id": "MIT"`, `"id": "MPL-2.0"`, `"timestamp": "2023-11-14T22:13:20Z"`, `"value": "` + strings.Repeat("e", 40)} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("document lacks %s", want)
		}
	}
}

// The validation that the other tests lean on must be able to say no.
func TestValidationRefuses(t *testing.T) {
	good := document(t, subject(), nil)
	for name, change := range map[string][2]string{
		"a licence that SPDX does not know": {`"id": "Apache-2.0"`, `"id": "My-Licence"`},
		"a serial number that is no UUID":   {`"urn:uuid:`, `"urn:uuid:x`},
		"a type that is none":               {`"type": "container"`, `"type": "box"`},
		"a hash of another length":          {`"content": "`, `"content": "0`},
		"a missing name":                    {`"name": "self"`, `"title": "self"`},
	} {
		bad := bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(bad, good) {
			t.Fatalf("%s: nothing to change", name)
		}
		if err := sbomtest.Check(bad); err == nil {
			t.Errorf("%s: the schema accepts it", name)
		}
	}
}

func TestDocumentSaysWhatGoVersionSays(t *testing.T) {
	b := self(t)
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", b.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sbomtest.GoVersion(t, out), sbomtest.Modules(t, document(t, subject(), nil))); diff != "" {
		t.Errorf("modules (-go version -m +document):\n%s", diff)
	}
}

func TestDocumentIsTheSameEachTime(t *testing.T) {
	one := document(t, subject(), nil)
	if !bytes.Equal(one, document(t, subject(), nil)) {
		t.Error("two documents about the same image differ")
	}
	other := subject()
	other.Digest = "sha256:" + strings.Repeat("ce", 32)
	if bytes.Equal(serial(t, one), serial(t, document(t, other, nil))) {
		t.Error("documents about two images have one serial number")
	}
}

func TestDependenciesNameComponents(t *testing.T) {
	var d struct {
		Metadata struct {
			Component struct {
				Ref string `json:"bom-ref"`
			}
		}
		Components []struct {
			Ref string `json:"bom-ref"`
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(document(t, subject(), nil), &d); err != nil {
		t.Fatal(err)
	}
	known := []string{d.Metadata.Component.Ref}
	for _, c := range d.Components {
		known = append(known, c.Ref)
	}
	reached := []string{d.Metadata.Component.Ref}
	for _, dep := range d.Dependencies {
		reached = append(reached, dep.DependsOn...)
	}
	slices.Sort(known)
	slices.Sort(reached)
	if diff := cmp.Diff(known, slices.Compact(reached)); diff != "" {
		t.Errorf("components and what is depended on (-have +reached):\n%s", diff)
	}
}

func TestDocumentRefusesSumsThatAreNone(t *testing.T) {
	for _, sum := range []string{"h1:", "h1:!!!", "h1:AAAA", "md5:x"} {
		_, err := sbom.Document(subject(), nil, nil, sbom.Extra{Name: "example.com/data", Version: "v1.0.0", Sum: sum, License: "MIT"})
		if err == nil || !strings.Contains(err.Error(), "example.com/data") {
			t.Errorf("Document with the sum %q = %v, want an error that names the module", sum, err)
		}
	}
}

func serial(t *testing.T, data []byte) []byte {
	t.Helper()
	var d struct{ SerialNumber string }
	if err := json.Unmarshal(data, &d); err != nil || d.SerialNumber == "" {
		t.Fatalf("serial number %q, %v", d.SerialNumber, err)
	}
	return []byte(d.SerialNumber)
}
