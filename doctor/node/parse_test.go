package node_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/node"
)

func TestSwaps(t *testing.T) {
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for text, want := range map[string][]string{
		"": nil, heading: nil, heading + "/dev/sda2 partition 1 0 -2\n/swap file 1 0 -3\n": {"/dev/sda2", "/swap"},
	} {
		if got := node.ParseSwaps(text); !cmp.Equal(got, want) {
			t.Errorf("ParseSwaps(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	const text = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\nMax locked memory         unlimited            unlimited            bytes\nMax nothing               x\n"
	for name, want := range map[string]uint64{"Max open files": 1024, "Max locked memory": math.MaxUint64, "Max nothing": 0, "Max other": 0} {
		if got := node.ParseLimit(text, name); got != want {
			t.Errorf("ParseLimit(%q) = %d, want %d", name, got, want)
		}
	}
}

func TestReadiness(t *testing.T) {
	const text = "[+] policy\n[-] audit log: disk: full; hint: make room\n[!] swap: mlock\n[?] odd\nodd\n[+]\nnot ready: nothing is granted\n"
	want := []doctor.Condition{{Name: "policy", Mark: '+'}, {Name: "audit log", Detail: "disk: full; hint: make room", Mark: '-'}, {Name: "swap", Detail: "mlock", Mark: '!'}}
	if diff := cmp.Diff(want, node.ParseReadiness(text)); diff != "" {
		t.Errorf("ParseReadiness() (-want +got):\n%s", diff)
	}
}

func TestSharedMounts(t *testing.T) {
	const root = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
	for name, test := range map[string]struct {
		table        string
		shared, fail bool
	}{
		"none":           {"", false, true},
		"garbage":        {"x\n1 2 - \n- - -\n", false, true},
		"root":           {root, true, false},
		"private root":   {"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n", false, false},
		"private nearer": {root + "30 20 8:2 / /var/lib rw - ext4 /dev/sdb1 rw\n", false, false},
		"shared nearer":  {"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 8:2 / /var/lib/kubelet/pods rw master:2 shared:7 - ext4 /dev/sdb1 rw\n", true, false},
		"beside":         {root + "30 20 8:2 / /var/lib/kubelet/pods2 rw - ext4 /dev/sdb1 rw\n", true, false},
		"covered":        {root + "30 20 8:2 / /var/lib rw shared:3 - ext4 /dev/sdb1 rw\n31 30 8:3 / /var/lib rw - ext4 /dev/sdc1 rw\n", false, false},
	} {
		shared, err := node.Shared(test.table, "/var/lib/kubelet/pods")
		if shared != test.shared || (err != nil) != test.fail {
			t.Errorf("%s: Shared() = %t, %v, want %t, an error %t", name, shared, err, test.shared, test.fail)
		}
	}
}

// The upstream driver's volume is a plain tmpfs with the layout of an
// AtomicWriter; other drivers have a plain tmpfs too.
func TestVolumesOfTheTable(t *testing.T) {
	root := t.TempDir()
	line := func(uid, volume, source string) string {
		return "40 30 0:50 / " + target(root, uid, volume) + " rw shared:9 - tmpfs " + source + " rw,size=4k\n"
	}
	const a, b = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	if err := os.MkdirAll(target(root, b, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026", filepath.Join(target(root, b, "old"), "..data")); err != nil {
		t.Fatal(err)
	}
	table := line(a, "db", "secrets-store.csi.portcullis") + line(b, "old", "tmpfs") + line(b, "other", "tmpfs") +
		strings.ReplaceAll(line(a, "sub", "secrets-store.csi.portcullis"), " / ", " /dir ") +
		"40 30 0:50 / /mnt rw - tmpfs secrets-store.csi.portcullis rw\n"
	want := []doctor.Volume{{PodUID: a, Name: "db"}, {PodUID: b, Name: "old", Legacy: true}}
	if diff := cmp.Diff(want, node.Volumes(table, root)); diff != "" {
		t.Errorf("Volumes() (-want +got):\n%s", diff)
	}
}

func target(root, uid, volume string) string {
	return filepath.Join(root, "pods", uid, "volumes", "kubernetes.io~csi", volume, "mount")
}

// FuzzOutsideText: what the kernel and the plugin write is read without a crash,
// and nothing comes out that did not go in.
func FuzzOutsideText(f *testing.F) {
	f.Add("[+] policy\n")
	f.Add("20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")
	f.Add("h\n/dev/sda2 partition 1 0 -2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range node.ParseReadiness(text) {
			if !strings.Contains(text, "] "+c.Name) || !strings.Contains(text, c.Detail) {
				t.Errorf("condition %+v is not in %q", c, text)
			}
		}
		for _, s := range node.ParseSwaps(text) {
			if !strings.Contains(text, s) {
				t.Errorf("swap area %q is not in %q", s, text)
			}
		}
		_, _ = node.Shared(text, "/var/lib/kubelet/pods")
		if got := node.Volumes(text, "/var/lib/kubelet"); len(got) > strings.Count(text, "\n")+1 {
			t.Errorf("%d volumes of %q", len(got), text)
		}
	})
}
