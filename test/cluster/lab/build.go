package lab

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// Version is a version of Kubernetes: major and minor.
type Version string

// The versions that Build knows. V137 is the one that is taken where none is
// named.
const (
	V137 Version = programs.Kubernetes137
	V135 Version = programs.Kubernetes135
)

// Programs are the directories of what a lab runs.
type Programs struct {
	Kubernetes, Containerd, Runc, CNI, Node string
}

// path is a value of PATH with what people and tests call.
func (p Programs) path() string {
	return strings.Join([]string{p.Kubernetes, p.Containerd, p.Runc, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/go/bin"}, ":")
}

// dirs are all directories of programs.
func (p Programs) dirs() []string {
	return []string{p.Kubernetes, p.Containerd, p.Runc, p.CNI, p.Node}
}

// Build builds what was never built on this machine, and says so on the writer.
func Build(ctx context.Context, version Version, progress io.Writer) (Programs, error) {
	var p Programs
	if err := canBuild(); err != nil {
		return p, err
	}
	kubernetes := func() (programs.Module, error) { return programs.Kubernetes(string(version)) }
	for _, part := range []struct {
		dir    *string
		module func() (programs.Module, error)
	}{
		{&p.Kubernetes, kubernetes},
		{&p.Containerd, programs.Containerd},
		{&p.Runc, programs.Runc},
		{&p.CNI, programs.CNI},
		{&p.Node, programs.Node},
	} {
		module, err := part.module()
		if err != nil {
			return p, err
		}
		if *part.dir, err = module.Build(ctx, progress); err != nil {
			return p, err
		}
	}
	return p, nil
}

// canBuild says what is missing before minutes are spent.
func canBuild() error {
	for name, pkg := range map[string]string{"gcc": "gcc", "pkg-config": "pkg-config"} {
		if _, err := exec.LookPath(name); err != nil {
			return missing("build runc", name, pkg)
		}
	}
	if err := exec.Command("pkg-config", "--exists", "libseccomp").Run(); err != nil {
		return missing("build runc", "libseccomp.pc", "libseccomp-dev")
	}
	return nil
}

// busybox is the path of the program in the lab's test image.
func busybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", missing("make the test image", "busybox", "busybox-static")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if linked, err := exec.Command("busybox", "ldd", path).Output(); err == nil && strings.Contains(string(linked), "=>") {
		return "", missing("make the test image", "a static busybox", "busybox-static")
	}
	return path, nil
}

func missing(what, file, pkg string) error {
	return fmt.Errorf("%s: %s is not there; hint: apt-get install %s", what, file, pkg)
}
