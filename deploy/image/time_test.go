package main_test

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	image "github.com/portcullis-csi/portcullis/deploy/image"
	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
)

// SOURCE_DATE_EPOCH is how others rebuild from an archive without commits:
// https://reproducible-builds.org/specs/source-date-epoch/
func TestSourceDateEpochDatesEverything(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	args := []string{"--source", root, "--platform", "linux/amd64", "--image", "portcullis-provider-local"}
	if err := image.Run(t.Context(), args, "1600000000", io.Discard); err != nil {
		t.Fatal(err)
	}
	_, config := dockerImage(t, filepath.Join(root, "bin", "images", "portcullis-provider-local.tar"), "ghcr.io/portcullis-csi/portcullis-provider-local:1.2.3")
	want := time.Unix(1600000000, 0)
	if !config.Created.Equal(want) {
		t.Errorf("created %v, want %v", config.Created, want)
	}
	for _, h := range config.History {
		if !h.Created.Equal(want) {
			t.Errorf("history says %v, want %v", h.Created, want)
		}
	}
	if got := config.Config.Labels["org.opencontainers.image.created"]; got != "2020-09-13T12:26:40Z" {
		t.Errorf("label says %q", got)
	}
}
