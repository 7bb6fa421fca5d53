package bundle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func load(t testing.TB, grants string, options ...policiestest.Option) policies.Bundle {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// manifest is a .manifest with this metadata beside the contract.
func manifest(metadata string) policiestest.Option {
	return policiestest.WithFile(".manifest", `{"revision":"r0","metadata":{"contract":"portcullis/v1"`+metadata+`}}`)
}

func TestBuildCompletesTheManifest(t *testing.T) {
	day := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 0, 0, 0, 0, time.UTC) }
	tests := []struct {
		name     string
		metadata string
		config   bundle.BuildConfig
		want     policies.Manifest
	}{
		{"flags alone", "", bundle.BuildConfig{Serial: 7}, policies.Manifest{Revision: "r0", Serial: 7, NotAfter: day(2, 14)}},
		{"manifest alone", `,"serial":3,"not_after":"2026-02-01T00:00:00Z","source_commit":"abcd"`, bundle.BuildConfig{},
			policies.Manifest{Revision: "r0", Serial: 3, NotAfter: day(2, 1), SourceCommit: "abcd"}},
		{"flags go first", `,"serial":3,"not_after":"2026-02-01T00:00:00Z","source_commit":"abcd"`,
			bundle.BuildConfig{Serial: 4, NotAfter: day(3, 1), Revision: "r1", SourceCommit: "ef01"},
			policies.Manifest{Revision: "r1", Serial: 4, NotAfter: day(3, 1), SourceCommit: "ef01"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Now, tt.want.Contract = now(), policies.Contract
			built, err := bundle.Build(t.Context(), load(t, policiestest.Grants, manifest(tt.metadata)), tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, built.Bundle.Manifest); diff != "" {
				t.Errorf("Build() has another manifest (-want +got):\n%s", diff)
			}
			if built.Grants != 1 || built.Waivers != 0 || built.Bundle.Signed {
				t.Errorf("Build() = %+v, want one grant, no waiver, and nothing that vouches for it", built)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct {
		name    string
		options []policiestest.Option
		change  func(*bundle.BuildConfig)
		want    string
	}{
		{"no serial", []policiestest.Option{manifest("")}, func(c *bundle.BuildConfig) { c.Serial = 0 }, "serial is missing"},
		{"negative serial", nil, func(c *bundle.BuildConfig) { c.Serial = -1 }, "serial is missing"},
		{"lower serial", []policiestest.Option{manifest(`,"serial":9`)}, func(c *bundle.BuildConfig) { c.Serial = 8 }, "below 9"},
		{"end has passed", nil, func(c *bundle.BuildConfig) { c.NotAfter = now() }, "has passed"},
		{"end far off", nil, func(c *bundle.BuildConfig) { c.NotAfter = now().AddDate(0, 0, 91) }, "more than 90 days off"},
		{"revision that hides", nil, func(c *bundle.BuildConfig) { c.Revision = "\x1b[8m" }, "revision"},
		{"commit that hides", nil, func(c *bundle.BuildConfig) { c.SourceCommit = "a b" }, "source commit"},
		{"no contract", []policiestest.Option{policiestest.WithFile(".manifest", "{}")}, nil, `contract is ""`},
		{"lost check", []policiestest.Option{policiestest.WithConfig("required_checks: [lost]")}, nil, "portcullis/config/data.yaml:1:19: config required_checks[0]"},
		{"broken check", []policiestest.Option{policiestest.WithCheck("odd", strings.Replace(check, "hostPID", "hostPid", 1))}, nil, "undefined ref"},
		{"waiver for long", []policiestest.Option{policiestest.WithWaivers(waiver)}, nil, "90 days"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := bundle.BuildConfig{Serial: 1, Now: now()}
			if tt.change != nil {
				tt.change(&c)
			}
			built, err := bundle.Build(t.Context(), load(t, policiestest.Grants, tt.options...), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) || built.Bundle.Digest != "" {
				t.Errorf("Build() = %v, %v, want an error with %q", built, err, tt.want)
			}
			if strings.Contains(err.Error(), "\x1b") {
				t.Errorf("Build() = %q: the error repeats an escape sequence", err)
			}
		})
	}
}

// warned returns the warnings about a bundle as "id subject".
func warned(b policies.Bundle) []string {
	var found []string
	for _, w := range bundle.Warnings(b, now()) {
		found = append(found, w.ID+" "+w.Subject)
	}
	slices.Sort(found)
	return found
}

func TestWarnings(t *testing.T) {
	expires := func(date string) string { return line(policiestest.Grants, "2126-12-31", date) }
	end := manifest(`,"serial":1,"not_after":"2026-03-01T00:00:00Z"`)
	tests := []struct {
		name    string
		grants  string
		options []policiestest.Option
		want    []string
	}{
		{"nothing to say", policiestest.Grants, nil, nil},
		{"no grants", "", nil, []string{"no-grants grants"}},
		{"signers", policiestest.Grants + "  imageSigners: [\"key:ci\"]\n", nil, []string{"image-signers grant G-1"}},
		{"expired", expires("2026-01-14"), nil, []string{"grant-expires grant G-1"}},
		{"last day", expires("2026-01-15"), nil, []string{"grant-expires grant G-1"}},
		{"within 14 days", expires("2026-01-28"), nil, []string{"grant-expires grant G-1"}},
		{"later", expires("2026-01-29"), nil, nil},
		{"before the bundle", expires("2026-02-27"), []policiestest.Option{end}, []string{"grant-expires grant G-1"}},
		{"with the bundle", expires("2026-02-28"), []policiestest.Option{end}, nil},
		{"waiver", policiestest.Grants, []policiestest.Option{policiestest.WithWaivers(line(waiver, "2026-12-31", "2026-01-20"))}, []string{"waiver-expires waiver W-1"}},
		{"monitor", policiestest.Grants, []policiestest.Option{policiestest.WithConfig(`monitor: {until: 2026-02-01, rules: ["*"]}`)}, []string{"monitor config monitor"}},
		{"monitor is over", policiestest.Grants, []policiestest.Option{policiestest.WithConfig(`monitor: {until: 2026-01-01, rules: ["*"]}`)}, []string{"monitor config monitor"}},
		{"no brake", policiestest.Grants, []policiestest.Option{policiestest.WithConfig("mass_revoke: true")}, []string{"mass-revoke config mass_revoke"}},
		{"brake", policiestest.Grants, []policiestest.Option{policiestest.WithConfig("mass_revoke: false")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, warned(load(t, tt.grants, tt.options...))); diff != "" {
				t.Errorf("Warnings() differ (-want +got):\n%s", diff)
			}
		})
	}
	w := bundle.Warnings(load(t, policiestest.Grants+"  imageSigners: [a]\n"), now())
	if len(w) != 1 || w[0].Message != "this version verifies no image signatures: grant G-1 is never live" {
		t.Errorf("Warnings() = %v, want it to say that signatures are not verified", w)
	}
}

// TestShadowedGrants: one is reported only where another allows all that it does
// and narrows no more than it does.
func TestShadowedGrants(t *testing.T) {
	const grant = "- {id: %s, owner: o, expiry: %s, namespaces: [%s], serviceAccounts: [%s], provider: local, secrets: [\"local://node/%s\"]%s}\n"
	g := func(id, expiry, ns, sa, secret, more string) string {
		return fmt.Sprintf(grant, id, expiry, ns, sa, secret, more)
	}
	narrow := g("N", "2030-01-01", "a", "b", "x/y#k", "")
	tests := []struct {
		name, wide string
		shadowed   bool
	}{
		{"equal", g("A", "2030-01-01", "a", "b", "x/y#k", ""), true},
		{"equal, later id", g("Z", "2030-01-01", "a", "b", "x/y#k", ""), false},
		{"prefix", g("W", "2030-01-01", "a", "b", "x/*", ""), true},
		{"far prefix", g("W", "2030-01-01", "a", "b", "*", ""), true},
		{"each key", g("W", "2030-01-01", "a", "b", "x/y#*", ""), true},
		{"every account", g("W", "2030-01-01", "a", `"*"`, "x/y#k", ""), true},
		{"more namespaces", g("W", "2030-01-01", "a, c", "b, d", "x/*", ""), true},
		{"later end", g("W", "2031-01-01", "a", "b", "x/*", ""), true},
		{"earlier end", g("W", "2029-01-01", "a", "b", "x/*", ""), false},
		{"other namespace", g("W", "2030-01-01", "c", "b", "x/*", ""), false},
		{"other account", g("W", "2030-01-01", "a", "d", "x/*", ""), false},
		{"other prefix", g("W", "2030-01-01", "a", "b", "z/*", ""), false},
		{"the file, not its keys", g("W", "2030-01-01", "a", "b", "x/y", ""), false},
		{"one version", g("W", "2030-01-01", "a", "b", "x/y#k@3", ""), false},
		{"scoping", g("W", "2030-01-01", "a", "b", "x/*", ", scoping: {role: r}"), false},
		{"audiences", g("W", "2030-01-01", "a", "b", "x/*", ", audiences: [v]"), false},
		{"mode", g("W", "2030-01-01", "a", "b", "x/*", `, maxFileMode: "0400"`), false},
		{"owner", g("W", "2030-01-01", "a", "b", "x/*", ", ownerUID: 7"), true},
		{"copies", g("W", "2030-01-01", "a", "b", "x/*", ", syncTargets: [db]"), true},
		{"pods", g("W", "2030-01-01", "a", "b", "x/*", ", pods: {ownerNames: [a]}"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.Contains(warned(load(t, narrow+tt.wide)), "grant-shadowed grant N"); got != tt.shadowed {
				t.Errorf("Warnings(%s) reports N as shadowed: %v, want %v", tt.wide, got, tt.shadowed)
			}
		})
	}
	unparsed := strings.Replace(narrow, "local://node/x/y#k", "unparsed:"+digest, 1)
	other := strings.NewReplacer("id: N", "id: A", "provider: local", "provider: vault").Replace(unparsed)
	if got := warned(load(t, unparsed+other)); len(got) != 0 {
		t.Errorf("Warnings(two providers) = %v, want none", got)
	}
	limited := g("N", "2030-01-01", "a", "b", "x/y", `, ownerUID: 7, syncTargets: [db], imageSigners: [k], audiences: [v], maxFileMode: "0400", pods: {ownerNames: [a]}`)
	for _, lost := range []string{"", "ownerUID: 7, ", "syncTargets: [db], ", "audiences: [v], ", `maxFileMode: "0400", `, "imageSigners: [k], "} {
		wide := strings.Replace(strings.Replace(limited, "id: N", "id: A", 1), lost, "", 1)
		want := lost == "" || strings.HasPrefix(lost, "imageSigners")
		if got := slices.Contains(warned(load(t, limited+wide)), "grant-shadowed grant N"); got != want {
			t.Errorf("Warnings(without %s) reports N as shadowed: %v, want %v", lost, got, want)
		}
	}
}

// BenchmarkBuild is what ten thousand grants cost their author.
func BenchmarkBuild(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "- {id: G-%d, owner: team, expiry: 2126-12-31, namespaces: [ns-%d], serviceAccounts: [api], provider: local, secrets: [\"local://node/ns-%d/*\"]}\n", i, i, i)
	}
	files := policiestest.Files(text.String())
	for b.Loop() {
		loaded, err := bundle.LoadFS(files)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bundle.Build(b.Context(), loaded, bundle.BuildConfig{Serial: 1, Now: now()}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadTarball is what they cost a node when a bundle arrives.
func BenchmarkReadTarball(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "- {id: G-%d, owner: team, expiry: 2126-12-31, namespaces: [ns-%d], serviceAccounts: [api], provider: local, secrets: [\"local://node/ns-%d/*\"]}\n", i, i, i)
	}
	archive := string(packed(b, load(b, text.String())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bundle.ReadTarball(strings.NewReader(archive)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(archive)), "bytes/archive")
}

// line is the usual grant or waiver with one line in place of another.
func line(text, from, to string) string {
	if !strings.Contains(text, from) {
		return "no such line: " + from
	}
	return strings.Replace(text, from, to, 1)
}
