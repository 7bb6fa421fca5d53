package policies

import (
	"fmt"
	"time"
)

// maxBundleLifetime bounds how far off the end of a bundle, of a waiver and of
// monitor mode may be: whatever nobody renews for a quarter of a year ends.
const maxBundleLifetime = 90 * 24 * time.Hour

// maxSerial has 18 digits, which is what the cluster's floor holds. A higher one would
// leave nothing above it for the next bundle.
const maxSerial = 999_999_999_999_999_999

// Bundle is policy as its source delivered it, before it is compiled.
type Bundle struct {
	// Modules are the Rego files by their path in the bundle, tests left out.
	Modules map[string]string
	// Data holds config, grants and waivers below the key portcullis. Grants
	// and waivers are the index that package bundle makes of the YAML files.
	Data     map[string]any
	Manifest Manifest
	// Places are where parts of the data stand in the author's files, by the
	// Part of a BundleError. It may be nil.
	Places map[string]Place
	// Digest identifies the content: sha256:<hex>.
	Digest string
	// Signed is set only by a source that has verified a signature.
	Signed bool
	// BreakGlass is set where it was verified by a key for emergencies: the bundle
	// is in force for hours, and every event under it is critical.
	BreakGlass bool
	// Signers are those who vouch for it.
	Signers []string
}

// Manifest is what the author states about a bundle.
type Manifest struct {
	Revision     string
	Contract     string
	Serial       int64
	NotAfter     time.Time // zero: no end, which only unsigned bundles may say
	SourceCommit string
}

// BundleError says which part of a bundle is wrong and what to do about it.
type BundleError struct {
	Part    string // a file, a package or a configuration key
	Problem string
	Remedy  string
}

// Error names the part, the problem and the remedy.
func (e *BundleError) Error() string {
	return fmt.Sprintf("%s: %s; hint: %s", e.Part, e.Problem, e.Remedy)
}

func checkManifest(b Bundle, now time.Time) *BundleError {
	switch m := b.Manifest; {
	case m.Contract != Contract:
		return &BundleError{"manifest metadata.contract", fmt.Sprintf("contract is %q", m.Contract), "this engine speaks " + Contract}
	case m.Serial < 0:
		return &BundleError{"manifest metadata.serial", "serial is negative", "count serials upwards from 1"}
	case m.Serial > maxSerial:
		return &BundleError{"manifest metadata.serial", "serial has more than 18 digits", "count serials upwards from 1, or use seconds, not nanoseconds, for one"}
	case !bundleDigestPattern.MatchString(b.Digest):
		return &BundleError{"bundle", fmt.Sprintf("digest is %q", b.Digest), "sources set sha256:<hex>"}
	case b.Signed && m.NotAfter.IsZero():
		return &BundleError{"manifest metadata.not_after", "not_after is missing", "signed bundles end at most 90 days ahead"}
	case m.NotAfter.Sub(now) > maxBundleLifetime:
		return &BundleError{"manifest metadata.not_after", "not_after is more than 90 days off", "choose an earlier end and renew in time"}
	}
	return nil
}
