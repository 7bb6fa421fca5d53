package registry

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Scheme is how the text of a Reference begins.
const Scheme = "oci://"

// The bounds of names, those of the distribution specification.
const (
	maxReference  = 1024
	maxRepository = 255
)

var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digestForm     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Reference names a bundle in a registry, by a tag, a digest or both. With both the
// digest decides, and the tag is for people. The zero Reference names nothing.
type Reference struct{ host, repository, tag, digest string }

// Parse reads oci://host[:port]/repository[:tag][@sha256:...].
func Parse(text string) (Reference, error) {
	r, err := parse(text, Scheme)
	if err != nil {
		return Reference{}, err
	}
	if r.tag == "" && r.digest == "" {
		return Reference{}, refused(text, "has neither a tag nor a digest", "add one, as in "+Scheme+r.host+"/"+r.repository+":stable; no tag is taken for meant")
	}
	return r, nil
}

// parseRepository reads host[:port]/repository, with or without the scheme.
func parseRepository(text string) (Reference, error) {
	r, err := parse(Scheme+strings.TrimPrefix(text, Scheme), Scheme)
	if err != nil {
		return Reference{}, err
	}
	if r.tag != "" || r.digest != "" {
		return Reference{}, refused(text, "has a tag or a digest", "name the repository alone")
	}
	return r, nil
}

func parse(text, scheme string) (Reference, error) {
	const form = "write it as oci://registry.example/policy/bundle:tag or ...@sha256:digest"
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok || len(text) > maxReference {
		return Reference{}, refused(text, "does not begin with oci:// or is too long", form)
	}
	host, rest, ok := strings.Cut(rest, "/")
	if !ok || host == "" {
		return Reference{}, refused(text, "has no registry or no repository", form)
	}
	var r Reference
	r.host = strings.ToLower(host)
	if !goodHost(r.host) {
		return Reference{}, refused(text, "names no registry that could be one", "give a host name or address, with a port if it is not 443, and no user")
	}
	rest, r.digest, ok = strings.Cut(rest, "@")
	if ok && !digestForm.MatchString(r.digest) {
		return Reference{}, refused(text, "has a digest that is none", "a digest is sha256: and 64 hexadecimal digits in lower case")
	}
	r.repository, r.tag, ok = strings.Cut(rest, ":")
	if ok && !tagForm.MatchString(r.tag) {
		return Reference{}, refused(text, "has a tag that is none", "a tag is at most 128 letters, digits, dots, _ and -")
	}
	if len(r.repository) > maxRepository || !repositoryForm.MatchString(r.repository) {
		return Reference{}, refused(text, "has a repository that is none", "a repository is lower-case names of letters, digits, dots, _ and -, separated by /")
	}
	return r, nil
}

func refused(text, problem, hint string) error {
	return fmt.Errorf("reference %s %s; hint: %s", quote(text), problem, hint)
}

// goodHost accepts a name or an address with or without a port, and nothing that a
// URL would read as a user, a path or a query.
func goodHost(host string) bool {
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]") != "" {
		return false
	}
	_, err := name.NewRegistry(host, name.StrictValidation)
	return err == nil
}

// Is tells whether a text is meant as a Reference and not as a path.
func Is(text string) bool { return strings.HasPrefix(text, Scheme) }

// String returns the text that Parse reads.
func (r Reference) String() string {
	s := Scheme + r.host + "/" + r.repository
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest
	}
	return s
}

// Tag returns the tag, "" for none.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, "" for none.
func (r Reference) Digest() string { return r.digest }

// WithDigest returns the reference of one manifest in the same repository, without
// the tag.
func (r Reference) WithDigest(digest string) Reference {
	r.tag, r.digest = "", digest
	return r
}

// loopback tells whether a host is this machine, so that what is sent there cannot
// be read on the way.
func loopback(hostport string) bool {
	host := hostOf(hostport)
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}
