package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/portcullis-csi/portcullis/test/cluster/image"
)

// BusyboxImage is an image with a shell, which every lab has. The samples' name
// for it, busybox:1.37, leads to the same.
const BusyboxImage = busyboxImage

// LoadImage gives the node the images of an archive in the OCI layout. Of those
// for several platforms it takes the machine's.
func (l *Lab) LoadImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	defer f.Close()
	return l.load(ctx, archive, f)
}

func (l *Lab) load(ctx context.Context, name string, archive io.Reader) error {
	cmd := l.Command(ctx, "ctr", "--namespace=k8s.io", "images", "import", "--platform=linux/"+runtime.GOARCH, "-")
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load image %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// loadFirstImages loads what every lab has, as soon as containerd answers.
func (l *Lab) loadFirstImages(ctx context.Context) error {
	images, err := l.firstImages()
	if err != nil {
		return err
	}
	ended, cancel := l.ended(ctx)
	defer cancel()
	if err := waitFor(ctx, Containerd, ended, func(ctx context.Context) error {
		return l.Command(ctx, "ctr", "version").Run()
	}); err != nil {
		return err
	}
	var errs []error
	for _, i := range images {
		var archive bytes.Buffer
		if err := i.Write(&archive); err != nil {
			return err
		}
		errs = append(errs, l.load(ctx, i.References[0], &archive))
	}
	return errors.Join(errs...)
}

func (l *Lab) firstImages() ([]image.Image, error) {
	path, err := busybox()
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("ask busybox for its programs: %w", err)
	}
	files := []image.File{{Path: "/bin/busybox", From: path}}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			files = append(files, image.File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	return []image.Image{
		{
			References: []string{pauseImage}, Architecture: runtime.GOARCH, Entrypoint: []string{"/pause"}, User: "65535:65535",
			Files: []image.File{{Path: "/pause", From: filepath.Join(l.state.Programs.Node, "pause")}},
		},
		{
			References: []string{busyboxImage, busyboxAlias}, Architecture: runtime.GOARCH, Cmd: []string{"/bin/sh"},
			Files: append(files, image.File{Path: "/tmp"}, image.File{Path: "/etc"}),
		},
	}, nil
}
