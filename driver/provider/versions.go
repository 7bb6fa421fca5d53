package provider

import (
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// sortVersions returns the versions by id. Of two with one id the later
// counts, as with upstream, whose status objects hold the same list.
func sortVersions(versions []ObjectVersion) []ObjectVersion {
	byID := make(map[string]string, len(versions))
	for _, v := range versions {
		byID[v.ID] = v.Version
	}
	out := make([]ObjectVersion, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, ObjectVersion{ID: id, Version: byID[id]})
	}
	return out
}

// versionOf finds the version of a request's object. Providers choose their
// ids freely; a guess would put a wrong version into the log, so that only the
// file name, the path of the secret id, and one version for one file count.
func versionOf(r policies.Request, files int, versions []ObjectVersion) string {
	name := objectName(r.Secret)
	for _, v := range versions {
		if v.ID == name || v.ID == r.File {
			return v.Version
		}
	}
	if files == 1 && len(versions) == 1 {
		return versions[0].Version
	}
	return ""
}

// objectName returns the path of <provider>://<backend>/<path>[#key][@version].
func objectName(secret string) string {
	_, rest, _ := strings.Cut(secret, "://")
	_, name, _ := strings.Cut(rest, "/")
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, "#")
	return name
}

// fsMode takes the permission bits of a wire mode along with the bits above
// them, which policies.Grant counts as too wide.
func fsMode(wire uint64) fs.FileMode {
	return fs.FileMode(wire & maxMode)
}
