package bundle

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// Manifest is OPA's .manifest as far as a bundle may use it. What is ours stands
// in its metadata.
type Manifest struct {
	Revision    string   `json:"revision,omitempty" form:"revision" doc:"What the author calls this state of the policy."`
	Roots       []string `json:"roots,omitempty" form:"root" doc:"Always portcullis."`
	RegoVersion *int64   `json:"rego_version,omitempty" form:"one" doc:"Always 1."`
	Metadata    Metadata `json:"metadata" doc:"What Portcullis reads."`
}

// Metadata is what a bundle states about itself.
type Metadata struct {
	Contract     string    `json:"contract,omitempty" form:"contract" doc:"Version of the contract between bundle and engine."`
	Serial       int64     `json:"serial,omitempty" doc:"Counts upwards from 1. A rollback is a new serial."`
	NotAfter     time.Time `json:"not_after,omitzero" doc:"End of the bundle, RFC 3339, at most 90 days off."`
	SourceCommit string    `json:"source_commit,omitempty" form:"commit" doc:"Commit that the bundle was built from."`
}

// manifestOf returns the file of what is known about a bundle.
func manifestOf(m policies.Manifest) Manifest {
	return Manifest{
		Revision: m.Revision, Roots: []string{"portcullis"}, RegoVersion: new(int64(1)),
		Metadata: Metadata{Contract: m.Contract, Serial: m.Serial, NotAfter: m.NotAfter.UTC(), SourceCommit: m.SourceCommit},
	}
}

// parseManifest reads .manifest and notes where its fields stand.
func (c *collector) parseManifest(text []byte) policies.Manifest {
	var m Manifest
	t, err := readJSON(manifestFile, text, &m)
	if err != nil {
		c.addAll(manifestFile, err)
		return policies.Manifest{}
	}
	add := func(path, problem, hint string) {
		c.add(&policies.FileError{Place: t.where(path), Path: "manifest " + path, Problem: problem, Hint: hint})
	}
	forms{}.check(reflect.ValueOf(m), "", add)
	if m.Roots != nil && !slices.Equal(m.Roots, []string{"portcullis"}) {
		add("roots", fmt.Sprintf("manifest has roots %.200q", m.Roots), `use ["portcullis"]`)
	}
	if m.RegoVersion != nil && *m.RegoVersion != 1 {
		add("rego_version", fmt.Sprintf("manifest has rego_version %d", *m.RegoVersion), "use 1")
	}
	for _, path := range []string{"metadata.contract", "metadata.serial", "metadata.not_after"} {
		c.place("manifest "+path, t.where(path))
	}
	return policies.Manifest{
		Revision: m.Revision, Contract: m.Metadata.Contract, Serial: m.Metadata.Serial,
		NotAfter: m.Metadata.NotAfter, SourceCommit: m.Metadata.SourceCommit,
	}
}

// encodeManifest writes it for people, who look there first.
func encodeManifest(m policies.Manifest) ([]byte, error) {
	text, err := json.MarshalIndent(manifestOf(m), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(text, '\n'), nil
}
