package policies_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func grant(t *testing.T, changes ...mutate) policies.Grant {
	t.Helper()
	g, err := policiestest.Allow(t, changes...).Grant()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestZeroGrantIsUseless(t *testing.T) {
	var g policies.Grant
	if g.Requests() != nil || g.DecisionID() != "" || g.Provider() != "" || g.VolumeName() != "" || g.Ceiling() != 0 {
		t.Errorf("the zero Grant names something: %+v", g)
	}
	if g.Permits("") || g.Permits(policiestest.Digest) {
		t.Error("the zero Grant permits parameters")
	}
	if _, ok := g.FSGroup(); ok {
		t.Error("the zero Grant has a group")
	}
	if mode, _ := g.FileMode(policies.Request{}, 0o644); mode != 0 {
		t.Errorf("FileMode() of the zero Grant = %#o, want 0", mode)
	}
	if g.Subject().Namespace != "" || g.Obligations().OnRevoke != "" {
		t.Error("the zero Grant has a subject or obligations")
	}
}

func TestGrantRepeatsTheDecision(t *testing.T) {
	d := policiestest.Allow(t)
	g, err := d.Grant()
	if err != nil {
		t.Fatal(err)
	}
	if g.DecisionID() != d.ID || g.Provider() != "local" || g.VolumeName() != "secrets" || g.Subject().PodName != "api-0" {
		t.Errorf("Grant = %q %q %q %q, want those of the decision", g.DecisionID(), g.Provider(), g.VolumeName(), g.Subject().PodName)
	}
	if len(g.Requests()) != 1 || g.Requests()[0].Secret != policiestest.Secret || g.Obligations().OnRevoke != policies.OnLossScrub {
		t.Errorf("Requests() = %+v, want the request of the input", g.Requests())
	}
	g.Requests()[0].Secret = "changed"
	if g.Requests()[0].Secret != policiestest.Secret {
		t.Error("a caller can change what was granted")
	}
	if gid, ok := g.FSGroup(); !ok || gid != 2000 {
		t.Errorf("FSGroup() = %d, %v, want 2000", gid, ok)
	}
}

// TestP3PermitsOnlyTheParametersDecidedOn: the fetch re-checks the digest.
func TestP3PermitsOnlyTheParametersDecidedOn(t *testing.T) {
	g := grant(t)
	for digest, want := range map[string]bool{
		policiestest.Digest: true, "": false, strings.ToUpper(policiestest.Digest): false, strings.Repeat("0", 64): false,
	} {
		if got := g.Permits(digest); got != want {
			t.Errorf("Permits(%q) = %v, want %v", digest, got, want)
		}
	}
}

// TestP6FileModeNeverExceedsTheCeiling walks every mode that a provider or a
// user could ask for.
func TestP6FileModeNeverExceedsTheCeiling(t *testing.T) {
	tests := []struct {
		name    string
		change  mutate
		ceiling fs.FileMode
	}{
		{"with group", func(*policies.Input) {}, 0o440},
		{"without group", noGroup, 0o444},
		{"owned", request(func(r *policies.Request) { r.UID = new(int64(1000)) }), 0o400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := policiestest.Engine(t, strings.ReplaceAll(narrowGrants, "0440", "0444")).Decide(t.Context(), policiestest.Input(tt.change)).Grant()
			if err != nil {
				t.Fatal(err)
			}
			r := g.Requests()[0]
			for provided := fs.FileMode(0); provided <= 0o7777; provided++ {
				for _, user := range []*uint32{nil, new(uint32(provided))} {
					r.Mode = user
					if mode, _ := g.FileMode(r, provided); mode&^tt.ceiling != 0 {
						t.Fatalf("FileMode(user %v, provider %#o) = %#o, want at most %#o", user, provided, mode, tt.ceiling)
					}
				}
			}
		})
	}
}

func TestFileMode(t *testing.T) {
	tests := []struct {
		name     string
		change   mutate
		user     uint32
		provided fs.FileMode
		want     fs.FileMode
		clamped  bool
	}{
		{"default with group", nil, 0, 0, 0o440, false},
		{"default without group", noGroup, 0, 0, 0o444, false},
		{"provider 0644 with group", nil, 0, 0o644, 0o440, true},
		{"provider 0644 without group", noGroup, 0, 0o644, 0o444, true},
		{"provider 0400 without group", noGroup, 0, 0o400, 0o400, false},
		{"provider 0400 with group is readable", nil, 0, 0o400, 0o440, false},
		{"user before provider", noGroup, 0o400, 0o444, 0o400, false},
		{"user 0600 with group", nil, 0o600, 0, 0o440, true},
		{"nothing left", nil, 0, 0o003, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*policies.Input) {}
			}
			r := policies.Request{Mode: new(tt.user)}
			mode, clamped := grant(t, change).FileMode(r, tt.provided)
			if mode != tt.want || clamped != tt.clamped {
				t.Errorf("FileMode(user %#o, provider %#o) = %#o, %v, want %#o, %v", tt.user, tt.provided, mode, clamped, tt.want, tt.clamped)
			}
		})
	}
}

func TestCeilingHeedsTheObligation(t *testing.T) {
	g, err := policiestest.Engine(t, strings.ReplaceAll(narrowGrants, "0440", "0400")).Decide(t.Context(), policiestest.Input()).Grant()
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Ceiling(); got != 0o400 {
		t.Errorf("Ceiling() = %#o, want 0400", got)
	}
	if mode, clamped := g.FileMode(g.Requests()[0], 0o440); mode != 0o400 || !clamped {
		t.Errorf("FileMode(0440) = %#o, %v, want 0400, true", mode, clamped)
	}
}
