package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Module is the path of the module whose programs are built.
const Module = "github.com/portcullis-csi/portcullis"

// Source is a tree that images are built from.
type Source struct {
	Root      string    // absolute, without links
	Revision  string    // commit; empty for a tree that is not a git repository
	Modified  bool      // the tree holds something that the commit does not
	Time      time.Time // of everything inside an image
	Toolchain string    // go1.2.3, from go.mod
	Stamp     string    // the version that programs report
}

// Open looks at the tree at or above dir. epoch is the value of
// SOURCE_DATE_EPOCH; when it is empty the commit's time counts.
func Open(ctx context.Context, dir, epoch string) (Source, error) {
	root, toolchain, err := findRoot(dir)
	if err != nil {
		return Source{}, err
	}
	s := Source{Root: root, Toolchain: toolchain}
	if err := s.readCommit(ctx); err != nil {
		return Source{}, err
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return Source{}, fmt.Errorf("read SOURCE_DATE_EPOCH %q: not a number of seconds since 1970", epoch)
		}
		s.Time = time.Unix(seconds, 0).UTC()
	}
	if s.Time.IsZero() {
		return Source{}, fmt.Errorf("date images: %s is not a git repository, so no commit gives the time; hint: set SOURCE_DATE_EPOCH", root)
	}
	return s, nil
}

// findRoot returns the directory of the product's go.mod and the toolchain
// that it names.
func findRoot(dir string) (root, toolchain string, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", fmt.Errorf("find source: %w", err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", "", fmt.Errorf("find source: %w", err)
	}
	for at := abs; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod")) //nolint:gosec // the user names the tree
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", "", fmt.Errorf("find source: %w", err)
		}
		if bytes.HasPrefix(text, []byte("module "+Module+"\n")) {
			m := regexp.MustCompile(`(?m)^go (\d+\.\d+\.\d+)$`).FindSubmatch(text)
			if m == nil {
				return "", "", fmt.Errorf("read %s: no line \"go 1.2.3\", so the toolchain is not fixed", filepath.Join(at, "go.mod"))
			}
			return at, "go" + string(m[1]), nil
		}
		if at == filepath.Dir(at) {
			return "", "", fmt.Errorf("find source: no go.mod of %s in %s or above; hint: name a clone with --source", Module, abs)
		}
	}
}

// readCommit asks git for the commit, unless the tree is no repository of its
// own: the commit of whatever repository lies around it would be a lie.
func (s *Source) readCommit(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(s.Root, ".git")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	head, err := s.git(ctx, "log", "-1", "--no-show-signature", "--format=%H %ct")
	if err != nil {
		return err
	}
	revision, seconds, _ := strings.Cut(head, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{40,64}$`).MatchString(revision) {
		return fmt.Errorf("read commit: git says %q, want a hash and a time", head)
	}
	// What git ignores is in no commit either, but is not built from.
	status, err := s.git(ctx, "status", "--porcelain")
	if err != nil {
		return err
	}
	s.Revision, s.Time, s.Modified = revision, time.Unix(unix, 0).UTC(), status != ""
	return nil
}

// SetVersion makes the stamp: the version and, as build metadata, the commit.
func (s *Source) SetVersion(version string) error {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(version) {
		return fmt.Errorf("version %q is not a semantic version without build metadata, as in 1.2.3 or 1.2.3-rc.1", version)
	}
	s.Stamp = "v" + version
	if s.Revision != "" {
		s.Stamp += "+" + s.Revision[:12]
	}
	if s.Modified {
		s.Stamp += ".modified"
	}
	return nil
}

// Tagged reports whether the commit carries the tag.
func (s *Source) Tagged(ctx context.Context, tag string) (bool, error) {
	if s.Revision == "" {
		return false, nil
	}
	tags, err := s.git(ctx, "tag", "--points-at", s.Revision)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(tags + "\n") {
		if strings.TrimSpace(line) == tag {
			return true, nil
		}
	}
	return false, nil
}

func (s *Source) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // arguments of our own
	cmd.Dir = s.Root
	cmd.Env = s.environment()
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run git %s in %s: %w: %s", args[0], s.Root, err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// environment returns what git and go need of the caller's environment, and
// nothing that could reach a binary.
func (s *Source) environment() []string {
	var env []string
	for _, pair := range os.Environ() { //nolint:forbidigo // handed down, not read
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "PATH", "HOME", "USER", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
			"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
			"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOTMPDIR":
			env = append(env, pair)
		}
	}
	return append(env,
		"LC_ALL=C",
		// A clone that another user owns, as in many a CI, is still the one we
		// were told to build; so git may answer.
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0="+s.Root,
		"GIT_OPTIONAL_LOCKS=0",
		"GOENV=off", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off",
		"GOTOOLCHAIN="+s.Toolchain, "GO111MODULE=on", "CGO_ENABLED=0",
	)
}
