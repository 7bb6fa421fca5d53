package registry_test

import (
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

func TestParse(t *testing.T) {
	d := "sha256:" + strings.Repeat("0a", 32)
	for _, text := range []string{
		"oci://ghcr.io/security/policy:stable",
		"oci://ghcr.io/security/policy@" + d,
		"oci://ghcr.io/security/policy:v1.2_3-4@" + d,
		"oci://registry:5000/p:1", // one word is a host, and not part of Docker Hub
		"oci://registry/p:1",
		"oci://127.0.0.1:5000/a/b/c:1",
		"oci://[::1]:5000/p:1",
		"oci://docker.io/library/policy:1",
	} {
		r, err := registry.Parse(text)
		if err != nil || r.String() != text {
			t.Errorf("Parse(%q) = %v, %v, want itself", text, r, err)
		}
	}
	r := reference(t, "oci://GHCR.io/p:Stable@"+d)
	if r.String() != "oci://ghcr.io/p:Stable@"+d || r.Tag() != "Stable" || r.Digest() != d {
		t.Errorf("Parse() = %v with tag %q and digest %q, want the host in lower case", r, r.Tag(), r.Digest())
	}
	if got := reference(t, "oci://ghcr.io/p:1").WithDigest(d); got.String() != "oci://ghcr.io/p@"+d {
		t.Errorf("WithDigest() = %v, want no tag", got)
	}
}

func TestParseRefuses(t *testing.T) {
	d := "sha256:" + strings.Repeat("0a", 32)
	for name, text := range map[string]string{
		"nothing": "", "no scheme": "ghcr.io/p:1", "another scheme": "https://ghcr.io/p:1", "no host": "oci:///p:1",
		"no repository": "oci://ghcr.io", "an empty repository": "oci://ghcr.io/:1", "neither tag nor digest": "oci://ghcr.io/p",
		"a user": "oci://user:password@ghcr.io/p:1", "a query": "oci://ghcr.io/p:1?x=y", "a fragment": "oci://ghcr.io/p:1#x",
		"upper case": "oci://ghcr.io/Policy:1", "dots": "oci://ghcr.io/../p:1", "an empty part": "oci://ghcr.io/a//b:1",
		"a short digest": "oci://ghcr.io/p@sha256:0a", "another digest": "oci://ghcr.io/p@sha512:" + strings.Repeat("0a", 64),
		"an upper-case digest": "oci://ghcr.io/p@" + strings.ToUpper(d), "two digests": "oci://ghcr.io/p@" + d + "@" + d,
		"an empty tag": "oci://ghcr.io/p:", "a tag with a slash": "oci://ghcr.io/p:a/b", "a long tag": "oci://ghcr.io/p:" + strings.Repeat("a", 129),
		"a long repository": "oci://ghcr.io/" + strings.Repeat("a", 256) + ":1", "a control": "oci://ghcr.io/p:1\x1b[2J", "a space": "oci://ghcr.io/p :1",
		"a port that is none": "oci://ghcr.io:port/p:1", "very long": "oci://ghcr.io/" + strings.Repeat("a/", 600) + "p:1",
	} {
		r, err := registry.Parse(text)
		if err == nil {
			t.Errorf("Parse(%s: %q) = %v, want an error", name, text, r)
			continue
		}
		if !strings.Contains(err.Error(), "; hint: ") || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("Parse(%s) = %q, want a hint and no controls", name, err)
		}
	}
}

// FuzzParse: whatever parses is written as it is read, and stays within its URL.
func FuzzParse(f *testing.F) {
	f.Add("oci://ghcr.io/a/b:c")
	f.Add("oci://[::1]:5000/p@sha256:" + strings.Repeat("0a", 32))
	f.Add("oci://user@ghcr.io/p:1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := registry.Parse(text)
		if err != nil {
			return
		}
		again, err := registry.Parse(r.String())
		if err != nil || again != r {
			t.Errorf("Parse(%q) = %v, and again %v, %v", text, r, again, err)
		}
		if strings.ContainsAny(r.String(), " \t\r\n?#%\\") || strings.Contains(r.String(), "..") && !strings.Contains(r.Tag(), "..") && !strings.Contains(strings.SplitN(r.String(), "/", 4)[2], "..") {
			t.Errorf("Parse(%q) = %v, which could leave its path", text, r)
		}
	})
}
