package openapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version is a release of Kubernetes and the SHA-256 of its OpenAPI document.
type Version struct{ Tag, SHA256 string }

// Versions returns the releases that the chart is checked against, oldest
// first. To take a new one, put its tag here: the error names its digest.
func Versions() []Version {
	return []Version{
		{"v1.35.4", "483500149ee52ce5753d75f5639101d985bb4f5e902cc05b1ba7627465d62446"},
		{"v1.36.3", "dcede2063da1d7ad62ecb5af8adb6d7fabd0b52385a7fa0048afb491dac90450"},
		{"v1.37.2", "465276aedf437726de5a6ed23a41b86d78bb0d347edf251a755ae26a93cdd8a6"},
	}
}

const swagger = "api/openapi-spec/swagger.json"

// Fetch returns the path of the document. It comes from the Go module of
// Kubernetes, once on a machine: 4 MB are kept of the module's 130, below
// PORTCULLIS_OPENAPI or the user's cache directory.
func (v Version) Fetch(ctx context.Context) (string, error) {
	dir := os.Getenv("PORTCULLIS_OPENAPI")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory: %w; hint: set PORTCULLIS_OPENAPI to one", err)
		}
		dir = filepath.Join(user, "portcullis", "openapi")
	}
	kept := filepath.Join(dir, v.Tag+".json")
	if text, err := os.ReadFile(kept); err == nil && v.check(text) == nil {
		return kept, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	text, err := v.download(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("fetch OpenAPI of Kubernetes %s: %w", v.Tag, err)
	}
	if err := v.check(text); err != nil {
		return "", err
	}
	return kept, replace(kept, text)
}

func (v Version) check(text []byte) error {
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != v.SHA256 {
		return fmt.Errorf("OpenAPI of Kubernetes %s has SHA-256 %s, want %s; hint: versions are pinned in test/chart/openapi/fetch.go", v.Tag, got, v.SHA256)
	}
	return nil
}

// download unpacks the module into a cache that is thrown away, unless the
// user's own holds it already.
func (v Version) download(ctx context.Context, dir string) (_ []byte, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	modules, proxy, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if text, err := os.ReadFile(filepath.Join(modules, "k8s.io", "kubernetes@"+v.Tag, swagger)); err == nil {
		return text, nil
	}
	scratch, err := os.MkdirTemp(dir, ".module")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-modcacherw", "k8s.io/kubernetes@"+v.Tag)
	cmd.Dir = scratch
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOMODCACHE="+filepath.Join(scratch, "mod"),
		"GOPROXY=file://"+filepath.Join(modules, "cache", "download")+","+proxy)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go mod download: %w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(scratch, "mod", "k8s.io", "kubernetes@"+v.Tag, swagger))
}

// replace writes a file in one step: two test packages may fetch at once.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".openapi")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
