// The race detector sees no more in hundreds of bundles that one goroutine reads
// than in a few, and takes some twenty times as long.

//go:build !race

package bundle_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// author writes bundles at random. Equal seeds give equal ones.
type author struct{ *rand.Rand }

func newAuthor(seed uint64) author { return author{rand.New(rand.NewPCG(seed, 7))} }

func (a author) some(words ...string) string { return words[a.IntN(len(words))] }

// few returns one to three different words as a YAML list.
func (a author) few(words ...string) string {
	a.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return "[" + strings.Join(words[:1+a.IntN(min(3, len(words)))], ", ") + "]"
}

// grant returns a grant that is valid where namespace_label_keys holds tier and
// example.com/team.
func (a author) grant(id string) string {
	lines := []string{
		"id: " + id, "owner: " + a.some("team-a", `"Team: B"`, "日本"), "expiry: " + a.some("2026-02-01", "2126-12-31"), "provider: local",
		a.some("namespaces: "+a.few("a", "b", "c1"), "namespaceSelector: {tier: prod}", "namespaceSelector: {tier: prod, example.com/team: pay}"),
		"serviceAccounts: " + a.some(`["*"]`, a.few("x", "y.z", "w")),
		"secrets: " + a.few(`"local://node/a"`, `"local://node/b/*"`, `"local://node/c#*"`, `"local://node/d#k@3"`, `"local://other/*"`),
	}
	for _, more := range []string{
		"scoping: {role: reader, url: \"https://x/?a=b&c=<d>\"}", "audiences: " + a.few("vault", `"https://kms"`), `maxFileMode: "0400"`, "ownerUID: 1000",
		"syncTargets: " + a.few("db", "cache"), "imageSigners: [\"key:ci\"]", "pods: {ownerKinds: [Job], namePatterns: [api-*]}",
	} {
		if a.IntN(3) == 0 {
			lines = append(lines, more)
		}
	}
	a.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return "- " + strings.Join(lines, "\n  ") + "\n"
}

func (a author) waiver(id string) string {
	text := fmt.Sprintf("- {id: %s, finding: %s, namespace: %s, serviceAccount: %s, reason: r, ticket: T, approvedBy: a, expiry: 2026-03-01", id,
		a.some("PR-010", "PR-200", "PR-999"), a.some("a", "b"), a.some("x", `"*"`))
	if a.IntN(2) == 0 {
		text += `, secret: "local://node/a"`
	}
	return text + "}\n"
}

// files spreads grants and waivers over some files in some order.
func (a author) files(grants, waivers []string) fstest.MapFS {
	files := policiestest.Files("", policiestest.WithConfig("namespace_label_keys: [tier, example.com/team]"))
	for dir, entries := range map[string][]string{"grants": grants, "waivers": waivers} {
		entries = slices.Clone(entries)
		a.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		for i := 0; len(entries) > 0; i++ {
			n := 1 + a.IntN(len(entries))
			name := fmt.Sprintf("portcullis/%s/%c%d.yaml", dir, 'a'+rune(a.IntN(26)), i)
			policiestest.WithFile(name, strings.Join(entries[:n], ""))(files)
			entries = entries[n:]
		}
	}
	return files
}

// TestAnyBundleSurvivesItsArchive: what is built of a random policy reads back with
// the same digest, the same index, the same grants and the same bytes; and in which
// files and order its author wrote it makes no difference.
func TestAnyBundleSurvivesItsArchive(t *testing.T) {
	digests := map[string]bool{}
	for seed := range uint64(60) {
		a := newAuthor(seed)
		var grants, waivers []string
		for i := range 1 + a.IntN(6) {
			grants = append(grants, a.grant(fmt.Sprintf("G-%d", i)))
		}
		for i := range a.IntN(4) {
			waivers = append(waivers, a.waiver(fmt.Sprintf("W-%d", i)))
		}
		b, err := bundle.LoadFS(a.files(grants, waivers))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if other, err := bundle.LoadFS(a.files(grants, waivers)); err != nil || other.Digest != b.Digest {
			t.Errorf("seed %d: in other files the digest is %q, %v, want %q", seed, other.Digest, err, b.Digest)
		}
		text := packed(t, b)
		got, err := bundle.ReadTarball(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("seed %d: ReadTarball() = %v", seed, err)
		}
		if diff := cmp.Diff(b.Data, got.Data); diff != "" || got.Digest != b.Digest || !bytes.Equal(packed(t, got), text) {
			t.Errorf("seed %d: ReadTarball() = digest %q, want %q and equal bytes; data (-want +got):\n%s", seed, got.Digest, b.Digest, diff)
		}
		if len(bundle.Grants(got)) != len(grants) || len(bundle.Waivers(got)) != len(waivers) {
			t.Errorf("seed %d: %d grants and %d waivers came back of %d and %d", seed, len(bundle.Grants(got)), len(bundle.Waivers(got)), len(grants), len(waivers))
		}
		index, err := bundle.IndexGrants(bundle.Grants(got), labels())
		if err != nil || digests[b.Digest] {
			t.Errorf("seed %d: IndexGrants(Grants()) = %v; its digest was there before: %v", seed, err, digests[b.Digest])
		}
		if diff := cmp.Diff(section(t, b), index); diff != "" {
			t.Errorf("seed %d: grants that came back make another index (-want +got):\n%s", seed, diff)
		}
		digests[b.Digest] = true
	}
}

func section(t *testing.T, b policies.Bundle) policies.GrantIndex {
	t.Helper()
	data, _ := b.Data["portcullis"].(map[string]any)
	grants, _ := data["grants"].(map[string]any)
	index, ok := grants["by_subject"].(policies.GrantIndex)
	if !ok {
		t.Fatal("the bundle has no index of grants")
	}
	return index
}

// TestAnotherGrantIsAnotherDigest: no field of a grant or a waiver is lost on the
// way into the digest.
func TestAnotherGrantIsAnotherDigest(t *testing.T) {
	base := strings.Replace(full, `"local://node/d#k@3", `, "", 1)
	waived := strings.Replace(waiver, "2026-12-31", "2026-03-31", 1)
	seen := map[string]string{}
	note := func(change, grants, waivers string) {
		t.Helper()
		b := load(t, grants, policiestest.WithWaivers(waivers))
		if other, twice := seen[b.Digest]; twice {
			t.Errorf("%q and %q have one digest", change, other)
		}
		seen[b.Digest] = change
	}
	note("nothing", base, waived)
	for old, text := range map[string]string{
		"G-1": "G-2", "team-payments": "other", "2026-12-31": "2026-12-30", `"orders"`: "order", "[api, web]": "[api]", "node/a": "node/x",
		"role: reader": "role: writer", "audiences: [vault]": "audiences: [bao]", "0440": "0400", "1000": "1001", "[db]": "[bd]", "key:ci": "key:cd",
		"StatefulSet": "Job", "ownerNames: [api]": "ownerNames: [web]", "registry.example/api": "registry.example/web", "api-*": "web-*",
	} {
		note(old, line(base, old, text), waived)
	}
	for old, text := range map[string]string{
		"W-1": "W-2", "PR-300": "PR-301", "namespace: payments": "namespace: orders", "serviceAccount: api": "serviceAccount: web",
		"2026-03-31": "2026-03-30", "SEC-1": "SEC-2",
	} {
		note(old, base, line(waived, old, text))
	}
	if len(seen) != 23 {
		t.Errorf("%d changes have digests, want 23", len(seen))
	}
}

// TestDamagedArchives: a flipped bit is noticed or was of no account, and a cut is
// noticed wherever it is.
func TestDamagedArchives(t *testing.T) {
	b := load(t, policiestest.Grants, policiestest.WithWaivers(strings.Replace(waiver, "2026-12-31", "2026-03-31", 1)))
	text := packed(t, b)
	refused := 0
	for i := range text {
		for _, bit := range []byte{1, 8, 128} {
			damaged := bytes.Clone(text)
			damaged[i] ^= bit
			got, err := bundle.ReadTarball(bytes.NewReader(damaged))
			if err != nil {
				refused++
			}
			if err == nil && got.Digest != b.Digest || err != nil && (got.Digest != "" || got.Modules != nil) {
				t.Errorf("ReadTarball(bit %d of byte %d flipped) = %q, %v", bit, i, got.Digest, err)
			}
		}
		if got, err := bundle.ReadTarball(bytes.NewReader(text[:i])); err == nil {
			t.Errorf("ReadTarball(%d of %d bytes) = %q, want an error", i, len(text), got.Digest)
		}
	}
	// Time, system and flags in the head of gzip are all that may change.
	if spared := 3*len(text) - refused; spared > 3*10 {
		t.Errorf("%d of %d flipped bits went unnoticed, want at most those of the head of gzip", spared, 3*len(text))
	}
}

// stored packs without compressing, which is quick.
func stored(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(raw)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDamagedFiles: the same for the files inside, whose sum an attacker makes anew:
// no bit may change what is in force without changing the digest.
func TestDamagedFiles(t *testing.T) {
	b := load(t, policiestest.Grants, policiestest.WithCheck("odd", check))
	raw := unzip(t, packed(t, b))
	for i := range raw {
		if raw[i] == 0 && i%32 > 0 {
			continue // padding, of which a part will do
		}
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1
		got, err := bundle.ReadTarball(bytes.NewReader(stored(t, damaged)))
		if err != nil {
			continue
		}
		if diff := cmp.Diff(b.Data, got.Data) + cmp.Diff(b.Modules, got.Modules) + cmp.Diff(b.Manifest, got.Manifest); (diff == "") != (got.Digest == b.Digest) {
			t.Errorf("ReadTarball(byte %d flipped) = %q, of %q before; content (-want +got):\n%s", i, got.Digest, b.Digest, diff)
		}
	}
}
