package bundle_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"

// full has every field of a grant.
const full = `
- id: G-1
  owner: team-payments
  expiry: 2026-12-31
  namespaces: [payments, "orders"]
  serviceAccounts: [api, web]
  provider: local
  secrets: ["local://node/a", "local://node/b/*", "local://node/c#*", "local://node/d#k@3", "local://node/*"]
  scoping: {role: reader}
  audiences: [vault]
  maxFileMode: "0440"
  ownerUID: 1000
  syncTargets: [db]
  imageSigners: ["key:ci"]
  pods:
    ownerKinds: [StatefulSet]
    ownerNames: [api]
    imageRepositories: [registry.example/api]
    namePatterns: [api-*]
`

// labels are the namespace labels that tests may select by.
func labels() []string { return []string{"example.com/team", "tier"} }

func index(t *testing.T, text string) (policies.GrantIndex, error) {
	t.Helper()
	grants, err := bundle.ParseGrants([]byte(text))
	if err != nil {
		return nil, err
	}
	return bundle.IndexGrants(grants, labels())
}

func TestIndexGrants(t *testing.T) {
	got, err := index(t, full)
	if err != nil {
		t.Fatal(err)
	}
	subjects := []string{"orders/api", "orders/web", "payments/api", "payments/web"}
	if diff := cmp.Diff(subjects, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("IndexGrants() has other subjects (-want +got):\n%s", diff)
	}
	keys := []string{"local://node/", "local://node/a", "local://node/b/", "local://node/c#", "local://node/d#k@3"}
	if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(got["orders/web"]))); diff != "" {
		t.Errorf("IndexGrants() has other secrets (-want +got):\n%s", diff)
	}
	want := policies.GrantRecord{
		ID: "G-1", Owner: "team-payments", NotAfterNS: 1798761600000000000, Provider: "local",
		Scoping: map[string]string{"role": "reader"}, Audiences: []string{"vault"}, MaxFileMode: new(uint32(0o440)),
		OwnerUID: new(int64(1000)), SyncTargets: []string{"db"}, ImageSigners: []string{"key:ci"},
		Pods: &policies.PodNarrowing{
			OwnerKinds: []string{"StatefulSet"}, OwnerNames: []string{"api"},
			ImageRepositories: []string{"registry.example/api"}, NamePatterns: []string{"api-*"},
		},
	}
	if diff := cmp.Diff([]policies.GrantRecord{want}, got["payments/api"]["local://node/a"]); diff != "" {
		t.Errorf("IndexGrants() has another record (-want +got):\n%s", diff)
	}
}

func TestIndexGrantsBySelector(t *testing.T) {
	text := strings.Replace(full, `namespaces: [payments, "orders"]`, "namespaceSelector: {tier: prod, example.com/team: pay}", 1)
	text = strings.Replace(text, "[api, web]", `["*"]`, 1)
	got, err := index(t, text)
	if err != nil {
		t.Fatal(err)
	}
	const subject = "label:example.com/team=pay/*"
	if diff := cmp.Diff([]string{subject}, slices.Collect(maps.Keys(got))); diff != "" {
		t.Fatalf("IndexGrants() has other subjects (-want +got):\n%s", diff)
	}
	want := map[string]string{"tier": "prod", "example.com/team": "pay"}
	if diff := cmp.Diff(want, got[subject]["local://node/a"][0].NamespaceLabels); diff != "" {
		t.Errorf("NamespaceLabels differ (-want +got):\n%s", diff)
	}
}

func TestIndexGrantsDefaults(t *testing.T) {
	got, err := index(t, `[{id: G, owner: o, expiry: 2026-12-31, namespaces: [a], serviceAccounts: [b], provider: p, secrets: ["p://x/y"]}]`)
	if err != nil {
		t.Fatal(err)
	}
	g := got["a/b"]["p://x/y"][0]
	if g.Scoping == nil || len(g.Scoping) != 0 || g.MaxFileMode != nil || g.OwnerUID != nil || g.Pods != nil || g.Audiences != nil {
		t.Errorf("IndexGrants() = %+v, want empty scoping and nothing else", g)
	}
}

// TestGrantsRefused changes one line of a good grant at a time.
func TestGrantsRefused(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           string // in the error
	}{
		{"unknown key", "owner: team-payments", "owner: x\n  ownr: y", "did you mean \"owner\"?"},
		{"key in another case", "owner: team-payments", "owner: x\n  Owner: y", "[0]: unknown key \"Owner\""},
		{"key written twice", "owner: team-payments", "owner: x\n  owner: y", "written twice"},
		{"no id", "id: G-1", `id: ""`, "id:"},
		{"id with spaces", "id: G-1", "id: G 1", "id:"},
		{"no owner", "owner: team-payments", `owner: ""`, "owner: is missing"},
		{"no expiry", "expiry: 2026-12-31", `expiry: ""`, "expiry: is missing"},
		{"odd expiry", "expiry: 2026-12-31", "expiry: soon", "not a date"},
		{"time as expiry", "expiry: 2026-12-31", "expiry: 2026-12-31T00:00:00Z", "not a date"},
		{"no namespaces", `namespaces: [payments, "orders"]`, "namespaces: []", "exactly one"},
		{"both", `namespaces: [payments, "orders"]`, "namespaces: [a]\n  namespaceSelector: {tier: prod}", "exactly one"},
		{"namespace pattern", `namespaces: [payments, "orders"]`, `namespaces: ["pay*"]`, "namespaces[0]"},
		{"every namespace", `namespaces: [payments, "orders"]`, `namespaces: ["*"]`, "namespaces[0]"},
		{"namespace with a slash", `namespaces: [payments, "orders"]`, "namespaces: [a/b]", "namespaces[0]"},
		{"namespace that is a label", `namespaces: [payments, "orders"]`, `namespaces: ["label:tier=prod"]`, "namespaces[0]"},
		{"label nobody trusts", `namespaces: [payments, "orders"]`, "namespaceSelector: {owner: me}", "namespace_label_keys"},
		{"label with a slash", `namespaces: [payments, "orders"]`, "namespaceSelector: {tier: a/b}", "not a label"},
		{"label without a value", `namespaces: [payments, "orders"]`, `namespaceSelector: {tier: ""}`, "not a label"},
		{"no accounts", "[api, web]", "[]", "serviceAccounts: is missing"},
		{"account pattern", "[api, web]", `["api*"]`, "serviceAccounts[0]"},
		{"star and names", "[api, web]", `["*", api]`, "serviceAccounts[0]"},
		{"account with a slash", "[api, web]", "[a/b]", "serviceAccounts[0]"},
		{"no provider", "provider: local", `provider: ""`, "provider: is missing"},
		{"other provider", "provider: local", "provider: vault", "not of provider"},
		{"no secrets", `"local://node/a", "local://node/b/*", "local://node/c#*", "local://node/d#k@3", "local://node/*"`, "", "secrets: is missing"},
		{"star", `"local://node/a"`, `"*"`, "secrets[0]"},
		{"every backend", `"local://node/a"`, `"local://*"`, "secrets[0]"},
		{"star inside", `"local://node/a"`, `"local://node/*/a"`, "secrets[0]"},
		{"star after a name", `"local://node/a"`, `"local://node/a*"`, "secrets[0]"},
		{"two stars", `"local://node/a"`, `"local://node/**"`, "secrets[0]"},
		{"final slash", `"local://node/a"`, `"local://node/a/"`, "secrets[0]"},
		{"final hash", `"local://node/a"`, `"local://node/a#"`, "secrets[0]"},
		{"dots", `"local://node/a"`, `"local://node/a/../*"`, "secrets[0]"},
		{"needless escape", `"local://node/a"`, `"local://node/%61"`, "%XX in upper case"},
		{"escape in lower case", `"local://node/a"`, `"local://node/a%2ab"`, "%XX in upper case"},
		{"escaped slash", `"local://node/a"`, `"local://node/a%2Fb"`, "%XX in upper case"},
		{"bare umlaut", `"local://node/a"`, `"local://node/ü/*"`, "%XX in upper case"},
		{"slash in a key", `"local://node/a"`, `"local://node/a#k/x"`, "%XX in upper case"},
		{"empty last element", `"local://node/a"`, `"local://node/a//*"`, "secrets[0]"},
		{"part of unparsed", `"local://node/a"`, `"unparsed:*"`, "secrets[0]"},
		{"short unparsed", `"local://node/a"`, `"unparsed:12"`, "secrets[0]"},
		{"empty mode", `maxFileMode: "0440"`, `maxFileMode: ""`, "maxFileMode"},
		{"pods of nothing", "pods:\n    ownerKinds: [StatefulSet]\n    ownerNames: [api]\n    imageRepositories: [registry.example/api]\n    namePatterns: [api-*]", "pods: {}", "pods: is empty"},
		{"mode as a number", `maxFileMode: "0440"`, "maxFileMode: 0440", "quotes"},
		{"decimal mode", `maxFileMode: "0440"`, "maxFileMode: 288", "maxFileMode"},
		{"writable mode", `maxFileMode: "0440"`, `maxFileMode: "0640"`, "maxFileMode"},
		{"executable mode", `maxFileMode: "0440"`, `maxFileMode: "0550"`, "maxFileMode"},
		{"setuid mode", `maxFileMode: "0440"`, `maxFileMode: "4440"`, "maxFileMode"},
		{"mode 0", `maxFileMode: "0440"`, `maxFileMode: "0000"`, "maxFileMode"},
		{"owner -1", "ownerUID: 1000", "ownerUID: -1", "ownerUID"},
		{"owner 2^32-1", "ownerUID: 1000", "ownerUID: 4294967295", "ownerUID"},
		{"owner by name", "ownerUID: 1000", "ownerUID: root", "ownerUID"},
		{"no audience", "audiences: [vault]", "audiences: []", "audiences: is empty"},
		{"empty audience", "audiences: [vault]", `audiences: [""]`, "audiences[0]: is an empty text"},
		{"no signer", `imageSigners: ["key:ci"]`, "imageSigners: []", "imageSigners: is empty"},
		{"no owner kind", "ownerKinds: [StatefulSet]", "ownerKinds: []", "pods.ownerKinds: is empty"},
		{"pod pattern", "namePatterns: [api-*]", `namePatterns: ["*api"]`, "pods.namePatterns[0]"},
		{"every pod", "namePatterns: [api-*]", `namePatterns: ["*"]`, "pods.namePatterns[0]"},
		{"list as text", "audiences: [vault]", "audiences: vault", "audiences"},
		{"null", "audiences: [vault]", "audiences: null", "not text"},
		{"anchor", "provider: local", "provider: &p local", "anchors"},
		{"tag", "provider: local", "provider: !!str local", "tags"},
		{"yes as a name", "owner: team-payments", "owner: true", "owner"},
		{"fraction", "ownerUID: 1000", "ownerUID: 1.5", "not text"},
		{"two documents", "- id: G-1", "[]\n---\n- id: G-1", "more than one document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(full, tt.old, tt.new, 1)
			if text == full {
				t.Fatalf("no %q in the grant", tt.old)
			}
			if got, err := index(t, text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("IndexGrants(%s) = %v, %v, want an error with %q", tt.name, got, err, tt.want)
			}
		})
	}
}

func TestGrantsRefusedAsAWhole(t *testing.T) {
	for name, text := range map[string]string{
		"same id twice": full + full,
		"empty":         "",
		"an object":     "id: G-1",
		"binary":        "\x00\x01",
		"number as key": "- 1: x",
		"deep":          strings.Repeat("[", 40) + strings.Repeat("]", 40),
		"alias":         "- &a {id: G}\n- *a",
		"merge":         "- <<: {id: G}",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := index(t, text); err == nil {
				t.Errorf("IndexGrants(%q) = nil error, want one", text)
			}
		})
	}
}

func TestUnparsedGrantInFull(t *testing.T) {
	got, err := index(t, strings.Replace(full, `"local://node/a"`, `"unparsed:`+digest+`"`, 1))
	if err != nil || len(got["payments/api"]["unparsed:"+digest]) != 1 {
		t.Errorf("IndexGrants() = %v, %v, want the unparsed id in full", got, err)
	}
}

const waiver = `
- id: W-1
  finding: PR-300
  namespace: payments
  serviceAccount: api
  secret: local://node/a
  reason: migration
  ticket: SEC-1
  approvedBy: security@example.com
  expiry: 2026-12-31
`

func TestIndexWaivers(t *testing.T) {
	waivers, err := bundle.ParseWaivers([]byte(waiver))
	if err != nil {
		t.Fatal(err)
	}
	got, err := bundle.IndexWaivers(waivers)
	want := policies.WaiverIndex{"PR-300": {"payments/api": {{
		ID: "W-1", Secret: new("local://node/a"), Reason: "migration", Ticket: "SEC-1",
		ApprovedBy: "security@example.com", NotAfterNS: 1798761600000000000,
	}}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("IndexWaivers() = %v (-want +got):\n%s", err, diff)
	}
}

func TestWaiversRefused(t *testing.T) {
	for _, change := range [][2]string{
		{"id: W-1", "id: W 1"},
		{"finding: PR-300", `finding: ""`},
		{"namespace: payments", `namespace: "*"`},
		{"namespace: payments", `namespace: ""`},
		{"serviceAccount: api", `serviceAccount: "api-*"`},
		{"reason: migration", `reason: ""`},
		{"ticket: SEC-1", `ticket: ""`},
		{"approvedBy: security@example.com", `approvedBy: ""`},
		{"expiry: 2026-12-31", `expiry: ""`},
		{"reason: migration", "reason: x\n  until: y"},
		{"secret: local://node/a", `secret: ""`},
		{"secret: local://node/a", `secret: "local://node/*"`},
		{"secret: local://node/a", `secret: "local://node/a#*"`},
		{"secret: local://node/a", "secret: local://node/a/"},
		{"secret: local://node/a", `secret: "local://node/%61"`},
		{"secret: local://node/a", "secret: db-password"},
		{"secret: local://node/a", "secret: unparsed:12"},
		{"- id: W-1", waiver + "\n- id: W-1"},
	} {
		t.Run(change[1], func(t *testing.T) {
			waivers, err := bundle.ParseWaivers([]byte(strings.Replace(waiver, change[0], change[1], 1)))
			if err == nil {
				_, err = bundle.IndexWaivers(waivers)
			}
			if err == nil {
				t.Errorf("IndexWaivers(%s) = nil error, want one", change[1])
			}
		})
	}
}

// TestEmptyFilesSayWhatToWrite: an empty file may be one that was cut off, so it
// is refused, and the author of a file of comments is told the remedy.
func TestEmptyFilesSayWhatToWrite(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# no grants yet\n", "---\n", "---\n# none\n", "~\n", "null"} {
		if _, err := bundle.ParseGrants([]byte(text)); err == nil || !strings.Contains(err.Error(), "write []") {
			t.Errorf("ParseGrants(%q) = %v, want a hint to write []", text, err)
		}
		if _, err := bundle.ParseWaivers([]byte(text)); err == nil || !strings.Contains(err.Error(), "write []") {
			t.Errorf("ParseWaivers(%q) = %v, want a hint to write []", text, err)
		}
	}
	for _, text := range []string{"[]\n", "# no grants yet\n[]\n"} {
		if grants, err := bundle.ParseGrants([]byte(text)); err != nil || len(grants) != 0 {
			t.Errorf("ParseGrants(%q) = %v, %v, want none", text, grants, err)
		}
	}
	if _, err := bundle.LoadFS(policiestest.Files("", policiestest.WithConfig("# nothing yet\n"))); err == nil || !strings.Contains(err.Error(), "write {}") {
		t.Errorf("LoadFS(config of comments) = %v, want a hint to write {}", err)
	}
}

// FuzzGrants: whatever the YAML, an index holds only keys that the library looks
// up, and no grant without an end.
func FuzzGrants(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("- &a {id: G}\n- *a"))
	f.Add([]byte("- {secrets: [\"unparsed:*\"]}"))
	for _, text := range yamlTricks() {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	for _, text := range invisible() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		grants, err := bundle.ParseGrants(text)
		if err != nil {
			return
		}
		got, err := bundle.IndexGrants(grants, labels())
		if err != nil {
			return
		}
		for subject, bySecret := range got {
			if strings.Count(strings.TrimPrefix(subject, "label:example.com/"), "/") != 1 {
				t.Errorf("IndexGrants(%q) has subject %q", text, subject)
			}
			for key, records := range bySecret {
				if !policies.ValidSecretKey(key) || strings.Contains(key, "*") {
					t.Errorf("IndexGrants(%q) has secret %q", text, key)
				}
				for _, g := range records {
					if g.NotAfterNS <= 0 || g.ID == "" || g.Scoping == nil {
						t.Errorf("IndexGrants(%q) has record %+v", text, g)
					}
				}
			}
		}
	})
}
