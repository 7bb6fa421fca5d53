package podstatus_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/spcpsutil"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
)

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// Ids and versions as the published providers make them, and what a hostile one
// might.
func TestProviderTextIsVetted(t *testing.T) {
	const pem = "-----BEGIN PRIVATE KEY-----\nMIIE"
	for _, test := range []struct{ name, id, version, wantID, wantVersion string }{
		{"azure", "secret/db-password", "7cc095105411491b84fe1b92ebbcf01a", "secret/db-password", "7cc095105411491b84fe1b92ebbcf01a"},
		{"aws", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf", "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf", "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111"},
		{"gcp", "projects/p/secrets/s/versions/latest", "projects/1/secrets/s/versions/3", "projects/p/secrets/s/versions/latest", "projects/1/secrets/s/versions/3"},
		{"vault", "bar", "ZsIIEMmBcqhTQYZLNx0gmQ4zBGGOSfXyxmLGyvwBP7g=", "bar", "ZsIIEMmBcqhTQYZLNx0gmQ4zBGGOSfXyxmLGyvwBP7g="},
		{"no version", "bar", "", "bar", ""},
		{"a key as version", "bar", pem, "bar", digest(pem)},
		{"a key as id", pem, "1", digest(pem), "1"},
		{"JSON as version", "bar", `{"password":"x"}`, "bar", digest(`{"password":"x"}`)},
		{"JSON as id", `{"password":"x"}`, "1", digest(`{"password":"x"}`), "1"},
		{"a long version", "bar", strings.Repeat("v", 129), "bar", digest(strings.Repeat("v", 129))},
		{"a long id", strings.Repeat("i", 513), "1", digest(strings.Repeat("i", 513)), "1"},
		{"a terminal's escape", "a\x1b[2J", "1\x1b[2J", digest("a\x1b[2J"), digest("1\x1b[2J")},
		{"not UTF-8", "a\xff", "1", digest("a\xff"), "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := podstatus.Merge(status("v", podstatus.Object{ID: test.id, Version: test.version})).Objects
			want := []spcv1.SecretProviderClassObject{{ID: test.wantID, Version: test.wantVersion}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// A provider that answers with as much as it may does not make an object that
// the API server cannot store.
func TestObjectIsBounded(t *testing.T) {
	var volumes []podstatus.Status
	for v := range 20 {
		s := status(fmt.Sprintf("v%d", v))
		for i := range 256 {
			s.Objects = append(s.Objects, podstatus.Object{ID: fmt.Sprintf("%02d%03d", v, i) + strings.Repeat("i", 507), Version: strings.Repeat("v", 128)})
		}
		volumes = append(volumes, s)
	}
	merged := podstatus.Merge(volumes...)
	text, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	if len(merged.Objects) != 512 || len(text) > 1<<19 {
		t.Errorf("%d objects in %d bytes, want 512 in less than half a MiB", len(merged.Objects), len(text))
	}
	if !strings.HasPrefix(merged.Objects[0].ID, "00000i") {
		t.Errorf("first id = %.10q, want the first in order", merged.Objects[0].ID)
	}
}

// What is merged does not depend on the order of the volumes, holds what each of
// them holds, and nothing else.
func TestMergeProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		var volumes []podstatus.Status
		for i := range 1 + random.IntN(4) {
			s := status(fmt.Sprintf("v%d", i))
			for range random.IntN(6) {
				s.Objects = append(s.Objects, podstatus.Object{ID: fmt.Sprintf("id%d", random.IntN(6)), Version: fmt.Sprint(random.IntN(3))})
			}
			volumes = append(volumes, s)
		}
		want := podstatus.Merge(volumes...)
		first := volumes[0].TargetPath
		shuffled := slices.Clone(volumes)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(want, podstatus.Merge(shuffled...)); diff != "" {
			t.Fatalf("round %d: the order of volumes matters (-want +got):\n%s", round, diff)
		}
		if want.TargetPath != first || want.PodName != "api-0" || !want.Mounted || want.SecretProviderClassName != "db" {
			t.Fatalf("round %d: status = %+v, want that of the first volume", round, want)
		}
		expectUnion(t, volumes, want.Objects)
	}
}

func expectUnion(t *testing.T, volumes []podstatus.Status, got []spcv1.SecretProviderClassObject) {
	t.Helper()
	want := map[string]string{}
	for _, s := range volumes {
		of := map[string]string{}
		for _, o := range s.Objects {
			of[o.ID] = o.Version // of two with one id in a volume the later counts, as upstream has it
		}
		for id, version := range of {
			if _, ok := want[id]; !ok {
				want[id] = version
			}
		}
	}
	if !slices.IsSortedFunc(got, func(a, b spcv1.SecretProviderClassObject) int { return strings.Compare(a.ID, b.ID) }) || len(got) != len(want) {
		t.Fatalf("objects = %v, want %v, sorted", got, want)
	}
	for _, o := range got {
		if want[o.ID] != o.Version {
			t.Fatalf("version of %s = %q, want %q", o.ID, o.Version, want[o.ID])
		}
	}
}

// TestObjectIsUpstreams compares with what upstream v1.6.0 builds for the same
// input. The golden file was written down from reading
// pkg/secrets-store/utils.go there, createOrUpdateSecretProviderClassPodStatus,
// which cannot be called from here; its sorting can.
func TestObjectIsUpstreams(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("user", "2", "password", "7", "secret/a", "v1")...))
	w.expect(gotten, created)
	got := w.server.Object("payments", name)
	got.UID, got.ResourceVersion = "", "" // the API server's
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "upstream-v1.6.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)+"\n"); diff != "" {
		t.Errorf("object (-upstream +got):\n%s", diff)
	}
	sorted := spcpsutil.OrderSecretProviderClassObjectByID(slices.Clone(got.Status.Objects))
	if diff := cmp.Diff(sorted, got.Status.Objects); diff != "" {
		t.Errorf("order of objects (-upstream +got):\n%s", diff)
	}
}

func TestStatusIsChecked(t *testing.T) {
	for field, change := range map[string]func(*podstatus.Status){
		"namespace":   func(s *podstatus.Status) { s.Namespace = "a/b" },
		"pod name":    func(s *podstatus.Status) { s.Pod = "../x" },
		"class":       func(s *podstatus.Status) { s.Class = "" },
		"volume":      func(s *podstatus.Status) { s.Volume = "A" },
		"pod UID":     func(s *podstatus.Status) { s.PodUID = "" },
		"target path": func(s *podstatus.Status) { s.TargetPath = strings.Repeat("/", 4097) },
	} {
		s := status("secrets")
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("check of a status with a bad %s = %v, want an error that names it", field, err)
		}
	}
	w := running(t)
	bad := status("secrets")
	bad.Namespace = "a/b"
	w.Set(bad)
	w.expect(gotten)
	if w.Held() != 0 || w.log.count("is not written") != 1 {
		t.Errorf("%d things held and log %q, want nothing and one line", w.Held(), w.log.text.String())
	}
}
