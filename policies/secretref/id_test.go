package secretref_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

func TestIDString(t *testing.T) {
	for _, test := range []struct {
		name string
		id   secretref.ID
		want string
	}{
		{"plain", id("local", "node", "payments/db"), "local://node/payments/db"},
		{"key", secretref.ID{Provider: "vault", Backend: "v:8200", Path: "a/b", Key: "password"}, "vault://v:8200/a/b#password"},
		{"version", secretref.ID{Provider: "vault", Backend: "v", Path: "a", Version: "3"}, "vault://v/a@3"},
		{"key and version", secretref.ID{Provider: "p", Backend: "b", Path: "a", Key: "k", Version: "3"}, "p://b/a#k@3"},
		{"separators in the path", id("p", "b", "a#k@3"), "p://b/a%23k%403"},
		{"percent in the path", id("p", "b", "a%23k"), "p://b/a%2523k"},
		{"wildcard", id("p", "b", "*"), "p://b/%2A"},
		{"slash in the backend", id("p", "b/c", "d"), "p://b%2Fc/d"},
		{"slash in the key", secretref.ID{Provider: "p", Backend: "b", Path: "a", Key: "k/x"}, "p://b/a#k%2Fx"},
		{"space and control", id("p", "b", "a b\n"), "p://b/a%20b%0A"},
		{"not ASCII", id("p", "b", "schlüssel"), "p://b/schl%C3%BCssel"},
		{"an ARN", id("aws", "1234:eu", "arn:aws:secretsmanager:eu:1234:secret:x"), "aws://1234:eu/arn:aws:secretsmanager:eu:1234:secret:x"},
		{"leading slash", id("p", "b", "/prod/db"), "p://b//prod/db"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.id.String(); got != test.want {
				t.Errorf("String(%#v) = %q, want %q", test.id, got, test.want)
			}
			got, err := secretref.Parse(test.want)
			if err != nil {
				t.Fatalf("Parse(%q) = %v, want nil", test.want, err)
			}
			if diff := cmp.Diff(test.id, got); diff != "" {
				t.Errorf("Parse(%q) differs (-want +got):\n%s", test.want, diff)
			}
		})
	}
}

func id(provider, backend, path string) secretref.ID {
	return secretref.ID{Provider: provider, Backend: backend, Path: path}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"empty", ""},
		{"no scheme", "node/a"},
		{"unparsed", "unparsed:" + strings.Repeat("0", 64)},
		{"no provider", "://b/a"},
		{"provider with a dot", "p.q://b/a"},
		{"long provider", strings.Repeat("p", 31) + "://b/a"},
		{"no path", "p://b"},
		{"empty path", "p://b/"},
		{"empty backend", "p:///a"},
		{"empty key", "p://b/a#"},
		{"empty version", "p://b/a@"},
		{"two keys", "p://b/a#k#l"},
		{"two versions", "p://b/a@1@2"},
		{"version before key", "p://b/a@1#k"},
		{"lower case escape", "p://b/a%2a"},
		{"needless escape", "p://b/%61"},
		{"escaped slash", "p://b/a%2Fb"},
		{"cut escape", "p://b/a%2"},
		{"no hexadecimal", "p://b/a%GG"},
		{"bare space", "p://b/a b"},
		{"bare wildcard", "p://b/*"},
		{"bare umlaut", "p://b/ü"},
		{"NUL", "p://b/a\x00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := secretref.Parse(test.text); !errors.Is(err, secretref.ErrMalformed) {
				t.Errorf("Parse(%q) = %v, %v, want ErrMalformed", test.text, got, err)
			}
		})
	}
}

// A grant's prefix ends at a slash, so no name may step over one.
func TestIDNeverLeavesItsPrefix(t *testing.T) {
	granted := id("p", "b", "team-a").String() + "/"
	for _, backend := range []string{"b", "b/team-a", "b#", "b@1"} {
		for _, path := range []string{"team-b/x", "x", "team-a#/x", "team-a@/x", "team-a%2Fx", "team-aX/x"} {
			if got := id("p", backend, path).String(); strings.HasPrefix(got, granted) {
				t.Errorf("String(%q, %q) = %q, want no prefix %q", backend, path, got, granted)
			}
		}
	}
}

func FuzzID(f *testing.F) {
	f.Add("p", "b", "a/b", "", "")
	f.Add("local", "node", "x#y@z", "k@", "#v")
	f.Add("aws", "1/eu", "\xff\x00%25", "%", "*")
	f.Fuzz(func(t *testing.T, provider, backend, path, key, version string) {
		want := secretref.ID{Provider: provider, Backend: backend, Path: path, Key: key, Version: version}
		text := want.String()
		got, err := secretref.Parse(text)
		if err == nil && got != want {
			t.Errorf("Parse(%q) = %#v, want %#v", text, got, want)
		}
		valid := backend != "" && path != "" && len(provider) > 0 && len(provider) <= 30 &&
			strings.Trim(provider, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
		if valid != (err == nil) {
			t.Errorf("Parse(%q) = %v, want an error: %t", text, err, !valid)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"p://b/a#k@1", "p://b/%23", "unparsed:00", "p://b//a/", "p://b/a%", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := secretref.Parse(s)
		if err == nil && got.String() != s {
			t.Errorf("Parse(%q).String() = %q, want the same", s, got)
		}
	})
}

// Every id that is made here can be the key of a grant.
func TestIDsAreKeysOfGrants(t *testing.T) {
	for _, path := range []string{"a", "a/b", "/a", "a#b@c", "ü b", "*"} {
		text := secretref.ID{Provider: "p", Backend: "b c/d", Path: path, Key: "k#", Version: "v@"}.String()
		if !policies.ValidSecretKey(text) {
			t.Errorf("ValidSecretKey(%q) = false, want true", text)
		}
	}
}

// What is no id here is no key of a grant either: it would be dead.
func FuzzKeysOfGrantsAreIDs(f *testing.F) {
	for _, s := range []string{"p://b/a#k@1", "p://b/%61", "p://b/a%2Fb", "p://b//a", "p://b/a/", "p://b/a#k/x", "p://b/\xff", "p://b/a%2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := secretref.Parse(s)
		if key := policies.ValidSecretKey(s); key && err != nil && !strings.HasSuffix(s, "/") && !strings.HasSuffix(s, "#") && !strings.HasPrefix(s, "unparsed:") {
			t.Errorf("ValidSecretKey(%q) = true, Parse = %v", s, err)
		}
	})
}

func ExampleParse() {
	id, err := secretref.Parse("vault://vault.example:8200/secret/data/payments/db#password@3")
	fmt.Println(id.Backend, id.Path, id.Key, id.Version, err)
	// Output: vault.example:8200 secret/data/payments/db password 3 <nil>
}
