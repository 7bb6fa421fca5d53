package bundle

import (
	"context"
	"fmt"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// DefaultLifetime is how long a bundle lasts whose author does not say.
const DefaultLifetime = 30 * 24 * time.Hour

// BuildConfig is what the author of a bundle states about it.
type BuildConfig struct {
	// Serial counts upwards; 0 keeps the manifest's. A lower one than the
	// manifest's is refused.
	Serial int64
	// NotAfter is the end; zero keeps the manifest's, or stands for the end of
	// the day that DefaultLifetime leads to.
	NotAfter time.Time
	// Revision and SourceCommit keep the manifest's where they are empty.
	Revision, SourceCommit string
	// Now is the time of the build. Required.
	Now time.Time
}

// Built is a bundle that is ready to be signed and published.
type Built struct {
	Bundle   policies.Bundle
	Grants   int
	Waivers  int
	Warnings []Warning
}

// Build completes the manifest of a bundle, compiles it as a node does,
// and says what its author might not expect of it.
func Build(ctx context.Context, b policies.Bundle, c BuildConfig) (Built, error) {
	m, err := c.manifest(b.Manifest)
	if err != nil {
		return Built{}, err
	}
	if b, err = WithManifest(b, m); err != nil {
		return Built{}, err
	}
	if _, err := policies.Compile(ctx, b, policies.Options{Clock: func() time.Time { return c.Now }}); err != nil {
		return Built{}, err
	}
	return Built{Bundle: b, Grants: len(Grants(b)), Waivers: len(Waivers(b)), Warnings: Warnings(b, c.Now)}, nil
}

func (c BuildConfig) manifest(m policies.Manifest) (policies.Manifest, error) {
	for _, text := range []struct{ name, form, value string }{{"revision", "revision", c.Revision}, {"source commit", "commit", c.SourceCommit}} {
		if f := formOf(text.form); text.value != "" && !f.pattern.MatchString(text.value) {
			return m, fmt.Errorf("%s %q %s; hint: leave it out, or give one that readers of the manifest can use", text.name, clip(text.value), f.problem)
		}
	}
	switch {
	case c.Serial < 0 || c.Serial == 0 && m.Serial <= 0:
		return m, fmt.Errorf("serial is missing; hint: give one above that of every bundle that was published")
	case c.Serial != 0 && c.Serial < m.Serial:
		return m, fmt.Errorf("serial %d is below %d, that of the .manifest; hint: serials only rise, a rollback too is a new one", c.Serial, m.Serial)
	case c.Serial != 0:
		m.Serial = c.Serial
	}
	if c.Revision != "" {
		m.Revision = c.Revision
	}
	if c.SourceCommit != "" {
		m.SourceCommit = c.SourceCommit
	}
	if !c.NotAfter.IsZero() {
		m.NotAfter = c.NotAfter
	}
	if m.NotAfter.IsZero() {
		// The end of a day, so that building twice a day gives equal bytes.
		m.NotAfter = c.Now.UTC().Add(DefaultLifetime).Truncate(24 * time.Hour)
	}
	m.NotAfter = m.NotAfter.UTC().Truncate(time.Second)
	if !m.NotAfter.After(c.Now) {
		return m, fmt.Errorf("not_after %s has passed; hint: choose an end at most 90 days ahead", m.NotAfter.Format(time.RFC3339))
	}
	return m, nil
}
