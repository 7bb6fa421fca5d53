package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// maxPages bounds a list of referrers, beside what bounds each page and the
// operation.
const maxPages = 16

// referrers lists what refers to a manifest: by the API of the distribution
// specification 1.1, page by page, else by the list under the fallback tag.
func (s *session) referrers(ctx context.Context, digest string) ([]descriptor, error) {
	path := "referrers/" + digest
	a, err := s.ask(ctx, request{http.MethodGet, path, indexMediaType, maxBody})
	if p := withoutReferrers(err); p || err == nil && !strings.HasPrefix(a.header.Get("Content-Type"), indexMediaType) {
		body, err := s.manifest(ctx, fallbackTag(digest), maxBody)
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return readIndex(body)
	}
	if err != nil {
		return nil, err
	}
	var all []descriptor
	for range maxPages {
		some, err := readIndex(a.body)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		query, more, err := s.nextPage(a.header, path)
		if err != nil || !more {
			return all, err
		}
		// A page that is not there is no end of the list: what is on it may be the
		// signature that counts.
		if a, err = s.ask(ctx, request{http.MethodGet, path + "?" + query, indexMediaType, maxBody}); err != nil {
			return nil, err
		}
	}
	return nil, problemf(ReasonTooLarge, "delete what is attached to the bundle and out of use", "its list of referrers has more than %d pages", maxPages)
}

func readIndex(text []byte) ([]descriptor, error) {
	var index struct {
		SchemaVersion int          `json:"schemaVersion"`
		Manifests     []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(text, &index); err != nil || index.SchemaVersion != 2 {
		return nil, problemf(ReasonMalformed, "is it a registry?", "its list of referrers is no index")
	}
	return index.Manifests, nil
}

// nextPage returns the query of the page after this one, which a registry names in
// a Link (RFC 8288). Only the query is taken from it: a Link to anywhere else than
// the same list is refused.
func (s *session) nextPage(h http.Header, path string) (query string, more bool, err error) {
	link := strings.Join(h.Values("Link"), ", ")
	if link == "" {
		return "", false, nil
	}
	form := regexp.MustCompile(`(?i)<([^<>]*)>[^<>]*;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\s*(?:[;,]|$))`)
	found := form.FindStringSubmatch(link)
	if found == nil {
		return "", false, nil
	}
	// The scheme is agreed with the registry, whatever the Link says.
	own := &url.URL{Scheme: "https", Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + path}
	next, err := own.Parse(found[1])
	if err != nil || next.Host != own.Host || next.Path != own.Path || next.User != nil || next.RawQuery == "" {
		return "", false, problemf(ReasonMalformed, "is it a registry?", "its list of referrers goes on at %s", quote(found[1]))
	}
	return next.RawQuery, true, nil
}

// withoutReferrers tells whether the answer of a registry means that it does not
// know the API.
func withoutReferrers(err error) bool {
	if err == nil {
		return false
	}
	switch classify(err).status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	default:
		return false
	}
}
