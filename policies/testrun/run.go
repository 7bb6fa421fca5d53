package testrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// DefaultTimeout is how long one test may take.
const DefaultTimeout = 10 * time.Second

// Config says what to test and how. Directory is required.
type Config struct {
	Directory string         // of the bundle, as its author has it
	Run       *regexp.Regexp // names of the tests to run; nil: all
	Timeout   time.Duration  // of one test; zero: DefaultTimeout
	// Now is the time of the run: of fixtures that do not say one, and for the
	// bounds of the bundle. Zero is the present.
	Now time.Time
	// Progress is told how many tests are done; it may be nil.
	Progress func(done, total int64)
}

// Run loads a bundle and runs its tests. An error means that they could not be
// run; what they found is in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	root, err := os.OpenRoot(c.Directory)
	if err != nil {
		return Report{}, fmt.Errorf("open policy directory: %w", err)
	}
	defer root.Close()
	b, err := bundle.LoadFS(root.FS())
	if err != nil {
		return Report{}, err
	}
	tests, err := readSources(root.FS())
	if err != nil {
		return Report{}, err
	}
	s := session{Config: c, bundle: b, root: root, coverage: cover.New()}
	if err := s.rego(ctx, tests.rego); err != nil {
		return Report{}, err
	}
	if err := s.fixtures(ctx, tests.fixtures); err != nil {
		return Report{}, err
	}
	return s.report(), nil
}

// session is one run.
type session struct {
	Config
	bundle   policies.Bundle
	root     *os.Root
	coverage *cover.Cover
	tests    []Test
}

func (s *session) options() policies.Options {
	return policies.Options{Budget: s.Timeout, Clock: func() time.Time { return s.Now }}
}

func (s *session) wanted(name string) bool { return s.Run == nil || s.Run.MatchString(name) }

func (s *session) done(t Test, total int) {
	s.tests = append(s.tests, t)
	if s.Progress != nil {
		s.Progress(int64(len(s.tests)), int64(total))
	}
}

// Fixtures returns the fixtures of a bundle's directory, for other tools that
// want its inputs. Errors are *FixtureError, joined, or of reading.
func Fixtures(root *os.Root) ([]Fixture, error) {
	tests, err := readSources(root.FS())
	if err != nil {
		return nil, err
	}
	fixtures, errs := tests.parse()
	return fixtures, errors.Join(errs...)
}

// RegoTests returns the Rego tests of a bundle's directory by their path.
func RegoTests(root *os.Root) (map[string]string, error) {
	tests, err := readSources(root.FS())
	return tests.rego, err
}

// parse reads every file of fixtures, in the order of their names.
func (s sources) parse() ([]Fixture, []error) {
	var fixtures []Fixture
	var errs []error
	for _, name := range sortedKeys(s.fixtures) {
		more, problems := ParseFixtures(name, s.fixtures[name])
		fixtures, errs = append(fixtures, more...), append(errs, problems...)
	}
	return fixtures, errs
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func byPlace(a, b Test) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
}
