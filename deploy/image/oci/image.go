package oci

import (
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Config is what a runtime and a reader are told of an image.
type Config struct {
	Platform    v1.Platform
	Entrypoint  string
	User        string // numeric: the image has no /etc/passwd
	Created     time.Time
	Labels      map[string]string // of the config and, as annotations, of the manifest
	CreatedWith string
}

// Image puts the layers together, lowest first.
func Image(c Config, layers ...v1.Layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:     l,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: c.Created}, CreatedBy: c.CreatedWith},
		})
		if err != nil {
			return nil, fmt.Errorf("append layer: %w", err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = c.Platform.OS, c.Platform.Architecture, c.Platform.Variant
	file.Created = v1.Time{Time: c.Created}
	file.Config = v1.Config{
		Entrypoint: []string{c.Entrypoint},
		Env:        []string{"PATH=/"},
		User:       c.User,
		WorkingDir: "/",
		Labels:     c.Labels,
	}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, fmt.Errorf("set config: %w", err)
	}
	annotated, ok := mutate.Annotations(img, c.Labels).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotate image: got %T", annotated)
	}
	return annotated, nil
}

// Index joins the images of several platforms under one digest.
func Index(annotations map[string]string, images ...v1.Image) (v1.ImageIndex, error) {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		file, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read config: %w", err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: file.Platform()}})
	}
	annotated, ok := mutate.Annotations(idx, annotations).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotate index: got %T", annotated)
	}
	return annotated, nil
}
