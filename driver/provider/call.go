package provider

import (
	"io/fs"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// Volume is where the files go: a *hardening.Volume.
type Volume interface {
	// Fill writes all files into a new volume, or none.
	Fill(files []hardening.File) error
	// Replace swaps in a new generation, unless it is equal to the old one.
	Replace(files []hardening.File) (changed bool, err error)
}

// ObjectVersion is the version of one object, as the provider names both.
type ObjectVersion struct{ ID, Version string }

// Call is one delivery. Deliver wipes Tokens and Secrets only through their
// own Wipe, which stays the caller's duty.
type Call struct {
	Grant     policies.Grant
	Effective kube.Effective
	Volume    Volume
	// Rotate replaces what Volume holds; else Volume is new.
	Rotate bool
	// Tokens of the pod's service account; may be empty.
	Tokens Tokens
	// Secrets is the content of nodePublishSecretRef; may be empty.
	Secrets Secrets
	// CurrentVersions is what Volume holds now; empty on a first delivery.
	CurrentVersions []ObjectVersion
}

// DeliveredFile is one file that was written.
type DeliveredFile struct {
	Path    string
	Size    int64
	Mode    fs.FileMode
	UID     int64
	Version string // "" where the provider's ids do not tell
}

// Delivered describes what was written, without the content.
type Delivered struct {
	Files    []DeliveredFile // in the order of the grant's requests
	Versions []ObjectVersion // sorted by ID, each once
	Clamped  []string        // paths whose mode the provider wanted wider
	Changed  bool            // false if a rotation found nothing new
}
