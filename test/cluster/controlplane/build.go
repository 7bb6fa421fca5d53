package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// KubernetesVersion is what Build builds.
const KubernetesVersion = "v1.37.2"

// programs are the names that the one binary answers to.
const (
	etcd      = "etcd"
	apiserver = "kube-apiserver"
)

// Build returns the directory with the programs, building them first where this
// version was never built on this machine: five to ten minutes on two cores
// with an empty build cache. Progress is told on the writer. Binaries are kept
// outside the clone, below PORTCULLIS_CLUSTER or the user's cache directory.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	dir, err := binaryDir(source)
	if err != nil {
		return "", err
	}
	if built(dir) {
		return dir, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if built(dir) { // by whoever had the lock
		return dir, nil
	}
	_, _ = fmt.Fprintf(progress, "building etcd and kube-apiserver %s (once per version: 5 to 10 minutes with an empty build cache)\n", KubernetesVersion)
	if err := build(ctx, source, dir, progress); err != nil {
		return "", fmt.Errorf("build etcd and kube-apiserver: %w", err)
	}
	return dir, nil
}

// sourceDir is where the module of the programs lies: beside this file.
func sourceDir() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if ok && filepath.IsAbs(file) {
		return filepath.Join(filepath.Dir(file), "..", "hyper"), nil
	}
	// Built with -trimpath: tests run in their package's directory.
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		module := filepath.Join(dir, "test", "cluster", "hyper")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, nil
		}
	}
	return "", errors.New("find test/cluster/hyper: not below a parent of the working directory; run this inside the clone")
}

// binaryDir is named after everything that the binary is made of.
func binaryDir(source string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH, ldflags())
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	cache := os.Getenv("PORTCULLIS_CLUSTER")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory: %w; set PORTCULLIS_CLUSTER to one", err)
		}
		cache = filepath.Join(user, "portcullis", "cluster")
	}
	return filepath.Join(cache, "hyper-"+hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

func built(dir string) bool {
	for _, name := range []string{etcd, apiserver} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// lock keeps two test packages from building at the same time.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func ldflags() string {
	const pkg = "k8s.io/component-base/version"
	major, minor, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean", pkg, KubernetesVersion, major, minor)
}

// build ends with one rename, so that an interrupted one leaves nothing that
// looks finished.
func build(ctx context.Context, source, dir string, progress io.Writer) error {
	scratch, err := os.MkdirTemp(filepath.Dir(dir), ".build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // after the rename there is nothing
	binary := filepath.Join(scratch, "hyper")
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", ldflags(), "-o", binary, ".")
	cmd.Dir, cmd.Stdout, cmd.Stderr = source, progress, progress
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if err := cmd.Run(); err != nil {
		return err
	}
	for _, name := range []string{etcd, apiserver} {
		if err := os.Link(binary, filepath.Join(scratch, name)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(scratch, dir)
}
