package compile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// insecureTag makes the development builds.
const insecureTag = "insecure"

// Target says for what to build.
type Target struct {
	OS, Arch string
	Insecure bool // the development build
}

// String returns os/arch.
func (t Target) String() string { return t.OS + "/" + t.Arch }

// ParseTarget reads os/arch.
func ParseTarget(text string) (Target, error) {
	for _, known := range Targets() {
		if known.String() == text {
			return known, nil
		}
	}
	return Target{}, fmt.Errorf("build for %q: no such platform; hint: one of %v", text, Targets())
}

// Targets returns the platforms that are supported.
func Targets() []Target {
	return []Target{{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}}
}

// Binary is one built program.
type Binary struct {
	Name, Path string
	SHA256     string // hexadecimal
	Info       *buildinfo.BuildInfo
}

// Build compiles the programs below cmd/ into dir, which belongs to it. What is
// there already and still current is kept.
//
// What a program says of itself is stamped here and not by the go command, which
// would take it from the tags of this very clone, and knows nothing of a commit
// in a linked worktree or a copy without .git.
func (s *Source) Build(ctx context.Context, t Target, dir string, programs ...string) ([]Binary, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // build output, no secret
		return nil, fmt.Errorf("build for %s: %w", t, err)
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.stamped=" + s.Stamp, "-o", dir + string(filepath.Separator)}
	_, err := s.goCommand(ctx, t, append(args, s.selection(t, programs)...)...)
	if err != nil {
		return nil, err
	}
	var built []Binary
	for _, name := range programs {
		b, err := s.inspect(t, name, filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		built = append(built, b)
	}
	return built, nil
}

// Linked is a package of a module that a program holds code of.
type Linked struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// Packages returns what the programs are linked from, to find licences by.
func (s *Source) Packages(ctx context.Context, t Target, programs ...string) ([]Linked, error) {
	args := []string{"list", "-buildvcs=false", "-deps", "-json=ImportPath,Dir,Standard,Module"}
	out, err := s.goCommand(ctx, t, append(args, s.selection(t, programs)...)...)
	if err != nil {
		return nil, err
	}
	var all []Linked
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Linked
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read packages of %s: %w", t, err)
		}
		all = append(all, p)
	}
}

// Goroot returns the directory of the toolchain that builds.
func (s *Source) Goroot(ctx context.Context) (string, error) {
	out, err := s.goCommand(ctx, Target{}, "env", "GOROOT")
	return strings.TrimSpace(string(out)), err
}

func (s *Source) selection(t Target, programs []string) []string {
	var args []string
	if t.Insecure {
		args = append(args, "-tags="+insecureTag)
	}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	return args
}

func (s *Source) goCommand(ctx context.Context, t Target, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // arguments of our own
	cmd.Dir = s.Root
	// The lowest CPU of each architecture: what a node has is not known here.
	cmd.Env = append(s.environment(), "GOOS="+t.OS, "GOARCH="+t.Arch, "GOAMD64=v1", "GOARM64=v8.0")
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run go %s for %s: %w: %s", args[0], t, err, strings.TrimSpace(problem.String()))
	}
	return out, nil
}

// inspect reads back what was built and refuses what was not asked for.
func (s *Source) inspect(t Target, name, path string) (Binary, error) {
	data, err := os.ReadFile(path) //nolint:gosec // just built
	if err != nil {
		return Binary{}, fmt.Errorf("inspect binary: %w", err)
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return Binary{}, fmt.Errorf("inspect binary %s: %w", name, err)
	}
	settings := map[string]string{}
	for _, pair := range info.Settings {
		settings[pair.Key] = pair.Value
	}
	insecure := slices.Contains(strings.Split(settings["-tags"], ","), insecureTag)
	switch {
	case info.GoVersion != s.Toolchain:
		err = fmt.Errorf("made by %s, want %s", info.GoVersion, s.Toolchain)
	case settings["GOOS"] != t.OS || settings["GOARCH"] != t.Arch:
		err = fmt.Errorf("made for %s/%s, want %s", settings["GOOS"], settings["GOARCH"], t)
	case settings["CGO_ENABLED"] != "0":
		err = errors.New("made with cgo")
	case insecure != t.Insecure:
		err = fmt.Errorf("build tags are %q, want the tag %s: %t", settings["-tags"], insecureTag, t.Insecure)
	case !bytes.Contains(data, []byte(s.Stamp)):
		err = fmt.Errorf("does not hold its version %q", s.Stamp)
	default:
		err = checkStatic(data)
	}
	if err != nil {
		return Binary{}, fmt.Errorf("inspect binary %s: %w", name, err)
	}
	sum := sha256.Sum256(data)
	return Binary{Name: name, Path: path, SHA256: hex.EncodeToString(sum[:]), Info: info}, nil
}

// checkStatic refuses what needs a file that an image from scratch has not.
func checkStatic(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("not an ELF file: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("not static: it asks for an interpreter or shared libraries")
		}
	}
	return nil
}
