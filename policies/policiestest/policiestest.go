package policiestest

import (
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// Now is the time of Input: 2026-01-15, noon in UTC.
const Now = int64(1768478400) * int64(time.Second)

// Digest is the parameter digest of Input.
const Digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"

// Secret is what Input asks for.
const Secret = "local://node/payments/db-password"

// Grants grants Secret to the subject of Input.
const Grants = `
- id: G-1
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/payments/*"]
`

// Manifest is that of the bundles that Engine makes.
const Manifest = `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`

// Files returns a bundle with these grants; options add to it or change it.
func Files(grants string, options ...Option) fstest.MapFS {
	files := fstest.MapFS{}
	for _, o := range append([]Option{WithFile(".manifest", Manifest)}, options...) {
		o(files)
	}
	if strings.TrimSpace(grants) != "" {
		WithFile("portcullis/grants/test.yaml", grants)(files)
	}
	return files
}

// Option changes the files of a bundle.
type Option func(fstest.MapFS)

// WithFile adds or replaces a file.
func WithFile(path, text string) Option {
	return func(files fstest.MapFS) { files[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
}

// WithConfig sets portcullis/config, in YAML.
func WithConfig(yaml string) Option { return WithFile("portcullis/config/data.yaml", yaml) }

// WithWaivers sets portcullis/waivers, in YAML.
func WithWaivers(yaml string) Option { return WithFile("portcullis/waivers/test.yaml", yaml) }

// WithCheck adds a check.
func WithCheck(name, rego string) Option {
	return WithFile("portcullis/checks/"+name+"/"+name+".rego", rego)
}

// engines are those that were compiled, by the digest of their bundle. An engine
// never changes, and compiling takes most of the time of many tests.
var engines sync.Map

// Engine compiles a bundle with these grants, or returns the engine that was
// compiled from an equal one before.
func Engine(t testing.TB, grants string, options ...Option) *policies.Engine {
	t.Helper()
	b, err := bundle.LoadFS(Files(grants, options...))
	if err != nil {
		t.Fatalf("LoadFS() = %v, want no error", err)
	}
	if made, ok := engines.Load(b.Digest); ok {
		if e, ok := made.(*policies.Engine); ok {
			return e
		}
	}
	// The clock is the input's, so that dates in tests do not run out.
	e, err := policies.Compile(t.Context(), b, policies.Options{
		Budget: 30 * time.Second, Clock: func() time.Time { return time.Unix(0, Now) },
	})
	if err != nil {
		t.Fatalf("Compile() = %v, want no error", err)
	}
	engines.Store(b.Digest, e)
	return e
}

// Allow returns an allow for Input, changed by mutators.
func Allow(t testing.TB, mutators ...func(*policies.Input)) policies.Decision {
	t.Helper()
	return decide(t, Engine(t, Grants), policies.VerdictAllow, mutators)
}

// Deny returns a denial of Input, changed by mutators, for want of a grant.
func Deny(t testing.TB, mutators ...func(*policies.Input)) policies.Decision {
	t.Helper()
	return decide(t, Engine(t, ""), policies.VerdictDeny, mutators)
}

// Undecided returns a decision with the verdict error, for want of a bundle.
func Undecided(t testing.TB, mutators ...func(*policies.Input)) policies.Decision {
	t.Helper()
	return decide(t, nil, policies.VerdictError, mutators)
}

func decide(t testing.TB, e *policies.Engine, want policies.Verdict, mutators []func(*policies.Input)) policies.Decision {
	t.Helper()
	d := e.Decide(t.Context(), Input(mutators...))
	if d.Verdict() != want {
		t.Fatalf("Decide() = %v (%v, %v), want %v", d.Verdict(), d.Deny, d.Cause(), want)
	}
	return d
}

// Input returns a complete and valid input of a first publish, changed by
// mutators: pod api-0 of payments/api asks for Secret in the file db-password.
func Input(mutators ...func(*policies.Input)) policies.Input {
	in := policies.Input{
		Contract: policies.Contract,
		Phase:    policies.PhaseMount,
		NowNS:    Now,
		Cluster:  "test",
		Subject: policies.Subject{
			Namespace:       "payments",
			NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": "payments"},
			ServiceAccount:  "api",
			PodName:         "api-0",
			PodUID:          "6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11",
			Node:            "node-1",
			TokenVerified:   new(false),
		},
		Pod: policies.Pod{
			FSGroup:   new(int64(2000)),
			HostUsers: true,
			Owner:     &policies.Owner{Kind: "StatefulSet", Name: "api"},
			Containers: []policies.Container{{
				Name: "api", Image: "registry.example/payments/api:1.4.2", Kind: policies.ContainerMain,
				RunAsUser: new(int64(1000)), RunAsNonRoot: new(true), MountsVolume: true,
			}},
		},
		SPC: policies.SPC{
			Name: "db", UID: "0c7a6f0e-8a51-4a76-8b4f-51d6c1b7f001", Generation: 1, Provider: "local",
			ParametersSHA256: Digest, Parameters: map[string]string{"objects": "(present)"},
		},
		Volume: policies.Volume{
			Name: "secrets", ReadOnly: true, Ephemeral: true, VolumeMountGroup: new(int64(2000)),
		},
		Requests: []policies.Request{{Secret: Secret, File: "db-password"}},
	}
	for _, m := range mutators {
		m(&in)
	}
	return in
}
