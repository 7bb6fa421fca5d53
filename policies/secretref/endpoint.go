package secretref

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// What may stand in the address of a backend. Everything else is spelt in
// several ways, or read differently by proxies on the way.
var (
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	portPattern = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
	basePattern = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)
)

// endpoint is where a provider asks, in its one spelling: host and port, and
// the path below which the API is.
type endpoint struct{ host, path string }

// String returns the endpoint as part of a backend's name. Without TLS it shows
// the scheme: that is another trust, and on another port.
func (e endpoint) String() string { return e.host + e.path }

// parseEndpoint reads an address. Only what is certainly equal is made equal:
// upper case in the host, a default port, the spelling of an IPv6 address.
func parseEndpoint(name, address string) (endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		strings.HasSuffix(address, "#") || u.RawPath != "" || !basePattern.MatchString(u.Path) {
		return endpoint{}, uncertain(name + " is not a plain address such as https://host.example:8443/path")
	}
	host, ok := canonicalHost(u)
	port := u.Port()
	if !ok || strings.HasSuffix(u.Host, ":") || port != "" && !portPattern.MatchString(port) {
		return endpoint{}, uncertain(name + " has a host or port that is not plain")
	}
	prefix, standard := "", "443"
	switch u.Scheme {
	case "https":
	case "http":
		prefix, standard = "http://", "80"
	default:
		return endpoint{}, uncertain(name + " does not begin with https:// or http://")
	}
	if port != "" && port != standard {
		host += ":" + port
	}
	return endpoint{host: prefix + host, path: u.Path}, nil
}

// canonicalHost looks before it folds: folding alone makes a K of the Kelvin sign.
func canonicalHost(u *url.URL) (string, bool) {
	host := u.Hostname()
	if !strings.HasPrefix(u.Host, "[") {
		return strings.ToLower(host), hostPattern.MatchString(host)
	}
	ip, err := netip.ParseAddr(host)
	return "[" + ip.String() + "]", err == nil && ip.Zone() == ""
}
