package programs

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
	"slices"
	"strings"
	"syscall"
	"time"
)

// Module is a set of programs that are built together.
type Module struct {
	// Name says what it is, in a directory's name and to people.
	Name string

	// Dir is where go build runs: a directory below the clone's root, with a
	// go.mod.
	Dir string

	// Packages are the arguments of go build.
	Packages []string

	// Programs are the names that must be there when it is built.
	Programs []string

	// OneFile makes all programs links to the first, which go build makes.
	OneFile bool

	// Sources are directories below the clone's root whose Go files count in the
	// hash. go.mod and go.sum always do.
	Sources []string

	// CGO builds with a C compiler, Tags and LDFlags as go build takes them.
	CGO           bool
	Tags, LDFlags string

	// Duration tells people how long a first build takes.
	Duration string
}

// Build returns the directory with the module's programs, building them first
// where these sources were never built on this machine. Progress is told on the
// writer.
func (m Module) Build(ctx context.Context, progress io.Writer) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := m.dir(root)
	if err != nil {
		return "", err
	}
	if m.built(dir) {
		return dir, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if m.built(dir) { // by whoever had the lock
		return dir, nil
	}
	begin := time.Now()
	_, _ = fmt.Fprintf(progress, "building %s (once per version: %s with an empty build cache)\n", m.Name, m.Duration)
	if err := m.build(ctx, root, dir, progress); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	_, _ = fmt.Fprintf(progress, "built %s in %v\n", m.Name, time.Since(begin).Round(time.Second))
	return dir, nil
}

// Root is the clone's root.
func Root() (string, error) {
	dir, err := os.Getwd()
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		dir, err = filepath.Dir(file), nil
	}
	// Built with -trimpath: tests run in their package's directory, people run
	// the command inside the clone.
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test", "cluster", "hyper", "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(errors.New("find test/cluster/hyper: not below a parent of the working directory; hint: run this inside the clone"), err)
}

// dir is named after everything that the programs are made of.
func (m Module) dir(root string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH, m.CGO, m.Tags, m.LDFlags, m.Packages)
	files := []string{filepath.Join(root, m.Dir, "go.mod"), filepath.Join(root, m.Dir, "go.sum")}
	for _, source := range m.Sources {
		found, err := filepath.Glob(filepath.Join(root, source, "*.go"))
		if err != nil {
			return "", err
		}
		for _, name := range found {
			if !strings.HasSuffix(name, "_test.go") {
				files = append(files, name)
			}
		}
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, filepath.Base(name), len(text))
		sum.Write(text)
	}
	cache := os.Getenv("PORTCULLIS_CLUSTER")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory: %w; hint: set PORTCULLIS_CLUSTER to one", err)
		}
		cache = filepath.Join(user, "portcullis", "cluster")
	}
	return filepath.Join(cache, m.Name+"-"+hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

func (m Module) built(dir string) bool {
	return !slices.ContainsFunc(m.Programs, func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err != nil
	})
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

// build ends with one rename, so that an interrupted one leaves nothing that
// looks finished.
func (m Module) build(ctx context.Context, root, dir string, progress io.Writer) error {
	scratch, err := os.MkdirTemp(filepath.Dir(dir), ".build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // after the rename there is nothing
	out := scratch + "/"
	if m.OneFile {
		out = filepath.Join(scratch, m.Programs[0])
	}
	args := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=" + m.Tags, "-ldflags=" + m.LDFlags, "-o", out}
	cmd := exec.CommandContext(ctx, "go", append(args, m.Packages...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(root, m.Dir), progress, progress
	cgo := "CGO_ENABLED=0"
	if m.CGO {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off", "GOFLAGS=")
	if err := cmd.Run(); err != nil {
		return err
	}
	if m.OneFile {
		for _, name := range m.Programs[1:] {
			if err := os.Link(out, filepath.Join(scratch, name)); err != nil {
				return err
			}
		}
	}
	if !m.built(scratch) {
		return fmt.Errorf("go build left some of %q out", m.Programs)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(scratch, dir)
}
