package secretref_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// read reads an objects parameter in the given provider's syntax.
func read(provider, objects string) secretref.Reading {
	return secretref.For(provider).Read(secretref.Params{
		Provider: provider, Parameters: map[string]string{"objects": objects}, Digest: digest,
	})
}

func ask(secret, file string, change ...func(*policies.Request)) policies.Request {
	r := policies.Request{Secret: secret, File: file}
	for _, f := range change {
		f(&r)
	}
	return r
}

func mode(m uint32) func(*policies.Request) { return func(r *policies.Request) { r.Mode = &m } }
func uid(u int64) func(*policies.Request)   { return func(r *policies.Request) { r.UID = &u } }

func TestReadObjects(t *testing.T) {
	for _, test := range []struct {
		name, objects string
		want          []policies.Request
	}{
		{"one", "- objectName: a\n", []policies.Request{ask("local://node/a", "a")}},
		{"in a directory", "- objectName: a/b\n", []policies.Request{ask("local://node/a/b", "a/b")}},
		{"alias", "- objectName: a/b\n  objectAlias: c\n", []policies.Request{ask("local://node/a/b", "c")}},
		{"empty alias", "- objectName: a\n  objectAlias: \"\"\n", []policies.Request{ask("local://node/a", "a")}},
		{"version", "- objectName: a\n  objectVersion: \"3\"\n", []policies.Request{ask("local://node/a@3", "a")}},
		{"mode", "- objectName: a\n  filePermission: \"0440\"\n", []policies.Request{ask("local://node/a", "a", mode(0o440))}},
		{"mode of three digits", "- objectName: a\n  filePermission: '400'\n", []policies.Request{ask("local://node/a", "a", mode(0o400))}},
		{"mode that policy refuses", "- objectName: a\n  filePermission: \"4755\"\n", []policies.Request{ask("local://node/a", "a", mode(0o4755))}},
		{"owner", "- objectName: a\n  ownerUID: 1000\n", []policies.Request{ask("local://node/a", "a", uid(1000))}},
		{"owner in quotes", "- objectName: a\n  ownerUID: \"1000\"\n", []policies.Request{ask("local://node/a", "a", uid(1000))}},
		{"JSON", `[{"objectName":"a","objectAlias":"b"}]`, []policies.Request{ask("local://node/a", "b")}},
		{"flow style", "[{objectName: a}, {objectName: b}]", []policies.Request{ask("local://node/a", "a"), ask("local://node/b", "b")}},
		{"comments and blank lines", "# list\n\n- objectName: a # this one\n", []policies.Request{ask("local://node/a", "a")}},
		{"document start", "---\n- objectName: a\n", []policies.Request{ask("local://node/a", "a")}},
		{"Windows line ends", "- objectName: a\r\n  objectAlias: b\r\n", []policies.Request{ask("local://node/a", "b")}},
		{"one secret in two files", "- objectName: a\n- objectName: a\n  objectAlias: b\n",
			[]policies.Request{ask("local://node/a", "a"), ask("local://node/a", "b")}},
		{"number in quotes", "- objectName: \"0440\"\n", []policies.Request{ask("local://node/0440", "0440")}},
		{"begins with a digit", "- objectName: 2024-backup\n", []policies.Request{ask("local://node/2024-backup", "2024-backup")}},
		{"colon inside", "- objectName: a:b\n", []policies.Request{ask("local://node/a:b", "a:b")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, read("local", test.objects).Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", test.objects, diff)
			}
		})
	}
}

// Each of these is read differently by some YAML version or library, is too
// large, or leaves open which file would appear.
func TestReadObjectsIsUnparsed(t *testing.T) {
	for _, test := range unreadable() {
		t.Run(test.name, func(t *testing.T) {
			checkUnparsed(t, read("local", test.objects).Requests, test.problem)
		})
	}
}

type unreadableObjects struct{ name, objects, problem string }

func unreadable() []unreadableObjects {
	return []unreadableObjects{
		{"empty", "", "missing or empty"},
		{"null", "null", "not a plain list"},
		{"map", "objectName: a", "not a plain list"},
		{"string", "a", "not a plain list"},
		{"empty list", "[]", "empty list"},
		{"only comments", "# nothing", "not valid YAML"},
		{"list of strings", "- a", "not a plain map"},
		{"list of lists", "- - objectName: a", "not a plain map"},
		{"Azure's array", "array:\n  - |\n    objectName: a\n", "not a plain list"},
		{"no name", "- objectAlias: a", "no objectName"},
		{"empty name", "- objectName: \"\"", "no objectName"},
		{"null name", "- objectName:", "in quotes"},
		{"unknown field", "- objectName: a\n  objectType: secret", "not known"},
		{"other case", "- objectName: a\n  objectalias: b", "not known"},
		{"nested map", "- objectName: {a: b}", "in quotes"},
		{"name twice", "- objectName: a\n  objectName: b", "twice"},
		{"name twice in quotes", "- objectName: a\n  \"objectName\": b", "twice"},
		{"anchor", "- objectName: &x a\n- objectName: b", "anchor"},
		{"anchored entry", "- &x {objectName: a}", "plain map"},
		{"anchored list", "&x [{objectName: a}]", "plain list"},
		{"alias", "- objectName: &x a\n- objectName: *x", "anchor"},
		{"merge key", "- &x {objectName: a}\n- <<: *x\n  objectAlias: b", "plain map"},
		{"merge of a literal map", "- <<: {objectName: a}", "merge key"},
		{"tag", "- objectName: !!str a", "tag"},
		{"own tag", "- objectName: !secret a", "tag"},
		{"tagged entry", "- !x {objectName: a}", "plain map"},
		{"block text", "- objectName: |-\n    a", "in quotes"},
		{"folded text", "- objectName: >-\n    a", "in quotes"},
		{"two documents", "- objectName: a\n---\n- objectName: b", "more than one"},
		{"two documents, second empty", "- objectName: a\n---\n", "more than one"},
		{"document end and more", "- objectName: a\n...\n- objectName: b", "more than one"},
		{"directive", "%YAML 1.1\n---\n- objectName: a", "directive"},
		{"complex key", "- ? objectName\n  : a", "complex key"},
		{"complex key on its own line", "-\n  ? objectName\n  : a", "complex key"},
		{"tab", "- objectName: a\t# x", "control character"},
		{"NUL", "- objectName: \"a\x00\"", "control character"},
		{"next line of YAML 1.1", "- objectName: a\u0085  objectAlias: b", "control character"},
		{"line separator", "- objectName: a\u2028  objectAlias: b", "control character"},
		{"byte order mark", "\ufeff- objectName: a", "control character"},
		{"lone carriage return", "- objectName: a\r  objectAlias: b", "control character"},
		{"not UTF-8", "- objectName: \xff", "UTF-8"},
		{"invalid", "- objectName: [", "valid YAML"},
		{"deep flow", strings.Repeat("[", 5) + strings.Repeat("]", 5), "deeply"},
		{"deep dashes", "- - - - a", "deeply"},
		{"octal in YAML 1.1", "- objectName: a\n  filePermission: 0440", "not in quotes"},
		{"octal in YAML 1.2", "- objectName: a\n  filePermission: 0o440", "not in quotes"},
		{"decimal mode", "- objectName: a\n  filePermission: 288", "not in quotes"},
		{"mode with prefix", "- objectName: a\n  filePermission: \"0o440\"", "octal number"},
		{"mode of nine", "- objectName: a\n  filePermission: \"0999\"", "octal number"},
		{"short mode", "- objectName: a\n  filePermission: \"44\"", "octal number"},
		{"long mode", "- objectName: a\n  filePermission: \"00440\"", "octal number"},
		{"signed mode", "- objectName: a\n  filePermission: \"+440\"", "octal number"},
		{"symbolic mode", "- objectName: a\n  filePermission: \"u=r\"", "octal number"},
		{"owner root", "- objectName: a\n  ownerUID: 0", "ownerUID"},
		{"negative owner", "- objectName: a\n  ownerUID: -1", "ownerUID"},
		{"octal owner", "- objectName: a\n  ownerUID: 01000", "ownerUID"},
		{"hexadecimal owner", "- objectName: a\n  ownerUID: 0x10", "ownerUID"},
		{"owner with underscore", "- objectName: a\n  ownerUID: 1_000", "ownerUID"},
		{"sexagesimal owner", "- objectName: a\n  ownerUID: 1:30", "ownerUID"},
		{"owner too large", "- objectName: a\n  ownerUID: 2147483648", "ownerUID"},
		{"owner by name", "- objectName: a\n  ownerUID: root", "ownerUID"},
		{"owner in a list", "- objectName: a\n  ownerUID: [1000]", "ownerUID"},
		{"number version", "- objectName: a\n  objectVersion: 3", "objectVersion is not a string"},
		{"unprintable name", `- objectName: "a\u202eb"`, "cannot be printed"},
		{"escaped newline", `- objectName: "a\nb"`, "cannot be printed"},
		{"long name", "- objectName: " + strings.Repeat("a", 513), "too long"},
		{"parent", "- objectName: ../a", "another path"},
		{"parent inside", "- objectName: a/../../b", "another path"},
		{"absolute", "- objectName: /a", "another path"},
		{"not clean", "- objectName: a//b", "another path"},
		{"absolute alias", "- objectName: a\n  objectAlias: /etc/x", "file name"},
		{"alias to the parent", "- objectName: a\n  objectAlias: ../x", "file name"},
		{"alias like kubelet's own", "- objectName: a\n  objectAlias: \"..data\"", "file name"},
		{"alias of a dot", "- objectName: a\n  objectAlias: \".\"", "file name"},
		{"alias with a slash at the end", "- objectName: a\n  objectAlias: x/", "file name"},
		{"long element", "- objectName: a\n  objectAlias: " + strings.Repeat("x", 256), "file name"},
		{"deep path", "- objectName: a\n  objectAlias: a/b/c/d/e/f/g/h/i", "file name"},
		{"same file twice", "- objectName: a\n- objectName: b\n  objectAlias: a", "same file"},
		{"file and directory", "- objectName: a\n- objectName: a/b", "directory of another"},
		{"too many", strings.Repeat("- objectName: a\n", 65), "more than 64"},
		{"too long", "- objectName: a # " + strings.Repeat("x", 64<<10), "64 KiB"},
	}
}

// checkUnparsed wants one request that no pattern of a grant matches.
func checkUnparsed(t *testing.T, got []policies.Request, problem string) {
	t.Helper()
	if len(got) != 1 || got[0].Secret != "unparsed:"+digest || got[0].File != "" || got[0].Mode != nil || got[0].UID != nil {
		t.Fatalf("Read(...) = %+v, want one unparsed request", got)
	}
	if !strings.Contains(got[0].ParseError, problem) {
		t.Errorf("ParseError = %q, want one about %q", got[0].ParseError, problem)
	}
}

// YAML 1.1 reads these as something else than strings, YAML 1.2 some of them.
func TestPlainScalarsThatAreNoStrings(t *testing.T) {
	for _, scalar := range []string{
		"yes", "No", "ON", "off", "y", "N", "true", "False", "null", "~", "=",
		"1", "-1", "+1", "0x1F", "0b1", "0o7", "017", "1_000", "190:20:30", "1e3", "1.5", ".5", "-.inf", ".NaN",
		"2001-12-14", "2001-12-14t21:59:43.10-05:00", "0xdeadbeef", "12e03",
	} {
		t.Run(scalar, func(t *testing.T) {
			checkUnparsed(t, read("local", "- objectName: "+scalar).Requests, "")
			want := []policies.Request{{Secret: "local://node/" + escaped(scalar), File: scalar}}
			if diff := cmp.Diff(want, read("local", "- objectName: \""+scalar+"\"").Requests); diff != "" {
				t.Errorf("Read(%q in quotes) differs (-want +got):\n%s", scalar, diff)
			}
		})
	}
}

func escaped(s string) string { return strings.TrimPrefix(id("p", "b", s).String(), "p://b/") }

func TestPlainScalarsInFlowCollections(t *testing.T) {
	for _, objects := range []string{"[{objectName: a:b}]", "[{objectName: a?b}]", "[{objectName: a#b}]"} {
		checkUnparsed(t, read("local", objects).Requests, "")
	}
	want := []policies.Request{ask("local://node/a:b", "a:b")}
	if diff := cmp.Diff(want, read("local", `[{objectName: "a:b"}]`).Requests); diff != "" {
		t.Errorf("Read(quoted in flow) differs (-want +got):\n%s", diff)
	}
}

// What an author writes must not come back in our own words.
func TestParseErrorsDoNotQuote(t *testing.T) {
	const canary = "Xcanary7"
	for _, objects := range []string{
		canary, "- " + canary, "- " + canary + ": a", "- objectName: [" + canary, "- objectName: !" + canary + " a",
		"- objectName: a\n  filePermission: \"" + canary + "\"", "- objectName: a\n  ownerUID: " + canary, "- objectName: ../" + canary,
	} {
		for _, provider := range []string{"local", "other"} {
			got := fmt.Sprintf("%+v", read(provider, objects))
			if strings.Contains(got, canary) {
				t.Errorf("Read(%q) = %s, want no %s", objects, got, canary)
			}
		}
	}
}

func TestReadStaysFastOnHostileText(t *testing.T) {
	for name, objects := range map[string]string{
		"flow":     strings.Repeat("[", 60<<10),
		"maps":     strings.Repeat("{a: ", 15<<10),
		"dashes":   strings.Repeat("- ", 30<<10),
		"keys":     "- " + strings.Repeat("objectName: a\n  ", 4<<10),
		"aliases":  "- &a [x]\n" + strings.Repeat("- [*a, *a]\n", 5<<10),
		"comments": strings.Repeat("#\n", 30<<10),
	} {
		t.Run(name, func(t *testing.T) { checkUnparsed(t, read("local", objects).Requests, "") })
	}
}
