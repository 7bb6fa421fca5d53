package secretref_test

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// accepts reports whether the local provider's object of this name is read,
// with the name in quotes, so that only the rules for paths count.
func accepts(t *testing.T, name string) bool {
	t.Helper()
	requests := read("local", "- objectName: "+strconv.Quote(name)+"\n").Requests
	return requests[0].ParseError == ""
}

// acceptsAlias is the same for a file's name; the object's is harmless.
func acceptsAlias(t *testing.T, name string) bool {
	t.Helper()
	requests := read("acme", "- objectName: a\n  objectAlias: "+strconv.Quote(name)+"\n").Requests
	return requests[0].ParseError == ""
}

func TestFileNames(t *testing.T) {
	element := strings.Repeat("x", 255)
	for _, test := range []struct {
		name, file string
		want       bool
	}{
		{"plain", "a", true},
		{"extension", "tls.crt", true},
		{"hidden", ".netrc", true},
		{"space", "a b", true},
		{"umlaut", "schlüssel", true},
		{"directory", "tls/key.pem", true},
		{"eight levels", "a/b/c/d/e/f/g/h", true},
		{"longest element", element, true},
		{"dots inside", "a..b", true},
		{"dots at the end", "a..", true},
		{"dash", "-rf", true},

		{"slash", "/", false},
		{"absolute", "/a", false},
		{"two slashes", "a//b", false},
		{"slash at the end", "a/", false},
		{"dot", ".", false},
		{"dot inside", "a/./b", false},
		{"dot first", "./a", false},
		{"dot last", "a/.", false},
		{"parent", "..", false},
		{"parent first", "../a", false},
		{"parent inside", "a/../b", false},
		{"parent last", "a/..", false},
		{"data directory", "..data", false},
		{"data directory below", "a/..data", false},
		{"generation", "..2026_01_15", false},
		{"three dots", "...", false},
		{"nine levels", "a/b/c/d/e/f/g/h/i", false},
		{"element too long", element + "x", false},
		{"NUL", "a\x00b", false},
		{"newline", "a\nb", false},
		{"escape sequence", "a\x1b[31m", false},
		{"delete", "a\x7f", false},
		{"direction override", "a\u202eb", false},
		{"zero width space", "a\u200bb", false},
		{"byte order mark", "\ufeffa", false},
		{"soft hyphen", "a\u00adb", false},
		{"no-break space", "a\u00a0b", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := accepts(t, test.file); got != test.want {
				t.Errorf("objectName %q accepted = %t, want %t", test.file, got, test.want)
			}
			if got := acceptsAlias(t, test.file); got != test.want {
				t.Errorf("objectAlias %q accepted = %t, want %t", test.file, got, test.want)
			}
		})
	}
}

func TestFilesThatConflict(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		want  bool // read
	}{
		{"others", []string{"a", "b", "c/d"}, true},
		{"one directory", []string{"a/b", "a/c"}, true},
		{"common beginning", []string{"a", "ab", "a.b", "a-b/c"}, true},
		{"other case", []string{"a", "A"}, true},
		{"same", []string{"a", "b", "a"}, false},
		{"file, then directory", []string{"a", "a/b"}, false},
		{"directory, then file", []string{"a/b", "a"}, false},
		{"two levels", []string{"a/b/c", "x", "a"}, false},
		{"middle level", []string{"a/b", "a/b/c/d"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var objects strings.Builder
			for i, f := range test.files {
				fmt.Fprintf(&objects, "- objectName: o%d\n  objectAlias: %q\n", i, f)
			}
			requests := read("acme", objects.String()).Requests
			if got := requests[0].ParseError == ""; got != test.want {
				t.Errorf("files %q read = %t (%q), want %t", test.files, got, requests[0].ParseError, test.want)
			}
		})
	}
}

// The order of requests is that of the class: the first file is the first
// object's, whatever the names.
func TestRequestsKeepTheirOrder(t *testing.T) {
	var objects strings.Builder
	var want []string
	for i := range secretref.MaxObjects {
		name := fmt.Sprintf("o%02d", (i*37)%secretref.MaxObjects)
		fmt.Fprintf(&objects, "- objectName: %s\n", name)
		want = append(want, "local://node/"+name)
	}
	var got []string
	for _, r := range read("local", objects.String()).Requests {
		got = append(got, r.Secret)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Read(...) = %q, want %q", got, want)
	}
}

// Two objects that differ in anything that the provider sees are two secrets.
func FuzzTwoObjectsTwoSecrets(f *testing.F) {
	f.Add("a", "1", "a", "2")
	f.Add("a@1", "", "a", "1")
	f.Add("a#b", "", "a%23b", "")
	f.Add("a/", "", "a", "")
	f.Add("ü", "", "u\u0308", "")
	f.Fuzz(func(t *testing.T, name1, version1, name2, version2 string) {
		secret := func(name, version string) (string, bool) {
			r := read("acme", fmt.Sprintf("- objectName: %s\n  objectVersion: %s\n  objectAlias: f\n", strconv.Quote(name), strconv.Quote(version))).Requests[0]
			return r.Secret, r.ParseError == ""
		}
		a, okA := secret(name1, version1)
		b, okB := secret(name2, version2)
		if okA && okB && (a == b) != (name1 == name2 && version1 == version2) {
			t.Errorf("ids of %q@%q and %q@%q = %q and %q, want them equal only if the objects are", name1, version1, name2, version2, a, b)
		}
	})
}

// What a grant for a directory covers, as the engine decides it, is what lies
// below the directory after any cleaning of the path that a backend may do.
func TestGrantedDirectoryHolds(t *testing.T) {
	engine := policiestest.Engine(t, `
- id: G-1
  owner: team-a
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: acme
  secrets: ["acme://default/team-a/*"]
`)
	granted := 0
	for _, name := range []string{
		"team-a/x", "team-a/x/y", "team-a//x", "team-a/x#k", "team-a/x y", "team-a/ü", "team-a/*",
		"team-b/x", "team-a", "team-a/", "team-ab/x", "team-a#/x", "team-a@1/x", "/team-a/x", "//team-a/x", "TEAM-A/x",
		"team-a/../team-b/x", "team-a/./x", "team-a/..", "team-a/%2e%2e/team-b/x", "team-a%2fx", `team-a\..\team-b`, "team-a?/../x",
	} {
		requests := read("acme", "- objectName: "+strconv.Quote(name)+"\n  objectAlias: f\n").Requests
		requests[0].Secret = strings.Replace(requests[0].Secret, digest, policiestest.Digest, 1)
		d := engine.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
			in.SPC.Provider, in.Requests = "acme", requests
		}))
		allowed := d.Verdict() == policies.VerdictAllow
		if below := strings.HasPrefix(path.Clean("/"+name)+"/", "/team-a/"); allowed && !below {
			t.Errorf("Decide(%q) = allow, want a denial: it is outside team-a", name)
		}
		if d.Verdict() == policies.VerdictError {
			t.Errorf("Decide(%q) = error (%v), want a verdict", name, d.Undecided)
		}
		if allowed {
			granted++
		}
	}
	if granted < 5 {
		t.Errorf("%d names were allowed, want at least 5 below team-a", granted)
	}
}

func ExampleReader() {
	reading := secretref.For("local").Read(secretref.Params{
		Provider: "local",
		Parameters: map[string]string{"objects": `
- objectName: payments/db-password
  objectAlias: password
  filePermission: "0440"
`},
	})
	for _, r := range reading.Requests {
		fmt.Printf("%s becomes %s with mode %04o\n", r.Secret, r.File, *r.Mode)
	}
	// Output: local://node/payments/db-password becomes password with mode 0440
}

// Unquoted, 0440 is 288 to one YAML version and 440 to another.
func ExampleReader_uncertain() {
	reading := secretref.For("acme").Read(secretref.Params{
		Provider:   "acme",
		Parameters: map[string]string{"objects": "- objectName: a\n  filePermission: 0440\n"},
		Digest:     strings.Repeat("0", 64),
	})
	fmt.Println(reading.Requests[0].Secret[:len("unparsed:00")])
	fmt.Println(reading.Requests[0].ParseError)
	// Output:
	// unparsed:00
	// filePermission is not in quotes: write "0440"
}
