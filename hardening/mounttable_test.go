package hardening_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/hardening"
)

const tmpfsLine = `238 31 0:492 / /k/pods/u/volumes/kubernetes.io~csi/s/mount ro,nosuid,nodev,noexec,relatime shared:200 - tmpfs ` +
	hardening.Marker + ` rw,size=2052k,nr_inodes=518,mode=750,gid=1337,noswap`

func TestParseMountTable(t *testing.T) {
	text := tmpfsLine + "\n" + `31 1 8:1 / /a\040b\134c rw - ext4 /dev/sda1 rw,errors=remount-ro` + "\n"
	got, err := hardening.ParseMountTable(text)
	if err != nil {
		t.Fatalf("ParseMountTable() = %v, want nil", err)
	}
	want := []hardening.MountLine{
		{
			ID: 238, Parent: 31, Device: "0:492", Root: "/", Point: "/k/pods/u/volumes/kubernetes.io~csi/s/mount", Kind: "tmpfs",
			Source: hardening.Marker, Super: "rw,size=2052k,nr_inodes=518,mode=750,gid=1337,noswap",
		},
		{ID: 31, Parent: 1, Device: "8:1", Root: "/", Point: `/a b\c`, Kind: "ext4", Source: "/dev/sda1", Super: "rw,errors=remount-ro"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseMountTable() differs (-want +got):\n%s", diff)
	}
}

func TestParseMountTableRefuses(t *testing.T) {
	for _, line := range []string{
		"", "238 31 0:492 / /x ro", "238 31 0:492 / /x ro shared:1 tmpfs x rw", "x 31 0:492 / /x ro - tmpfs s rw",
		"238 x 0:492 / /x ro - tmpfs s rw", "238 31 0:492 / - tmpfs s rw", "238 31 0:492 / /x ro - tmpfs s",
	} {
		if got, err := hardening.ParseMountTable(line + "\n"); err == nil {
			t.Errorf("ParseMountTable(%q) = %v, nil, want an error", line, got)
		}
	}
}

func TestMountLineFacts(t *testing.T) {
	replace := func(old, replacement string) string { return strings.Replace(tmpfsLine, old, replacement, 1) }
	ours := hardening.MountFacts{Ours: true, Noswap: true, Size: 2052 << 10, Limits: hardening.Limits{Bytes: 1 << 20, Inodes: 128, GID: 1337}}
	with := func(change func(*hardening.MountFacts)) hardening.MountFacts {
		facts := ours
		change(&facts)
		return facts
	}
	tests := []struct {
		name, line string
		want       hardening.MountFacts
	}{
		{"ours", tmpfsLine, ours},
		{"a bind of a directory in it", replace("0:492 / ", "0:492 /..data "), with(func(f *hardening.MountFacts) { f.Ours = false })},
		{"marker on another file system", replace("- tmpfs", "- ext4"), with(func(f *hardening.MountFacts) { f.Ours = false })},
		{"marker as a beginning", replace(hardening.Marker, hardening.Marker+"x"), with(func(f *hardening.MountFacts) { f.Ours = false })},
		{"the upstream driver's", replace(hardening.Marker, "tmpfs"), with(func(f *hardening.MountFacts) { f.Ours, f.PlainTmpfs = false, true })},
		{"mlock mode", replace(",noswap", ""), with(func(f *hardening.MountFacts) { f.Noswap = false })},
		{"noswap as part of a word", replace(",noswap", ",noswapx"), with(func(f *hardening.MountFacts) { f.Noswap = false })},
		{"no group", replace(",gid=1337", ""), with(func(f *hardening.MountFacts) { f.Limits.GID = 0 })},
		{"size taken away", replace("size=2052k,", ""), with(func(f *hardening.MountFacts) { f.Size, f.Limits.Bytes = 0, 4096 })},
		{"size blown up", replace("size=2052k", "size=999999999k"), with(func(f *hardening.MountFacts) { f.Size, f.Limits.Bytes = 999999999<<10, 64<<20 })},
		{"size beyond numbers", replace("size=2052k", "size=99999999999999999999k"), with(func(f *hardening.MountFacts) { f.Size, f.Limits.Bytes = 0, 4096 })},
		{"inodes blown up", replace("nr_inodes=518", "nr_inodes=99999999"), with(func(f *hardening.MountFacts) { f.Limits.Inodes = 1024 })},
		{"inodes taken away", replace("nr_inodes=518,", ""), with(func(f *hardening.MountFacts) { f.Limits.Inodes = 128 })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := hardening.ReadMountLine(tt.line)
			if err != nil {
				t.Fatalf("ReadMountLine(%q) = %v, want nil", tt.line, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ReadMountLine(%q) differs (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

const stackTable = `1 0 8:1 / / rw - ext4 d rw
20 1 8:2 / /k rw - ext4 d rw
30 20 0:1 / /k/m rw - tmpfs a rw
31 30 0:2 / /k/m rw - tmpfs b rw
32 31 0:3 / /k/m rw - tmpfs c rw
40 32 0:4 / /k/m/x rw - tmpfs in rw
41 31 0:5 / /k/m/y rw - tmpfs hidden rw
42 32 0:6 / /k/mm rw - tmpfs near rw
50 1 0:7 / /k/m rw - tmpfs below-the-cover rw
`

func TestStackAt(t *testing.T) {
	tests := []struct {
		name  string
		base  int
		point string
		want  []int
	}{
		{"three on each other", 20, "/k/m", []int{30, 31, 32}},
		{"seen from the middle", 30, "/k/m", []int{31, 32}},
		{"nothing there", 20, "/k/n", nil},
		{"hidden below the mount of the directory", 1, "/k/m", []int{50}},
		{"unknown base", 99, "/k/m", nil},
		{"the root of the table", 0, "/", []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, hardening.StackAt(stackTable, tt.base, tt.point)); diff != "" {
				t.Errorf("StackAt(%d, %q) differs (-want +got):\n%s", tt.base, tt.point, diff)
			}
		})
	}
}

func TestStackAtEnds(t *testing.T) {
	// A table that is read while it changes may show a circle.
	circle := "5 6 0:1 / /m rw - tmpfs a rw\n6 5 0:1 / /m rw - tmpfs a rw\n"
	if got := hardening.StackAt(circle, 5, "/m"); len(got) > 3 {
		t.Errorf("StackAt(circle) = %v, want an end", got)
	}
}

func TestInside(t *testing.T) {
	for _, tt := range []struct {
		id   int
		want []int
	}{{32, []int{40}}, {31, []int{41}}, {30, nil}, {40, nil}} {
		if diff := cmp.Diff(tt.want, hardening.Inside(stackTable, tt.id)); diff != "" {
			t.Errorf("Inside(%d) differs (-want +got):\n%s", tt.id, diff)
		}
	}
}

func FuzzMountTable(f *testing.F) {
	f.Add(tmpfsLine)
	f.Add(stackTable)
	f.Add(`1 0 8:1 / /\040\999\04 rw - ext4 d rw`)
	f.Fuzz(func(t *testing.T, text string) {
		table, err := hardening.ParseMountTable(text)
		if err == nil && len(table) != strings.Count(strings.TrimSuffix(text, "\n")+"\n", "\n") && text != "" {
			t.Errorf("ParseMountTable(%q) = %d lines, want every line or an error", text, len(table))
		}
		for _, m := range table {
			if got := hardening.StackAt(text, m.Parent, m.Point); len(got) == 0 && m.ID != m.Parent {
				t.Errorf("StackAt(%q, %d, %q) is empty, want mount %d", text, m.Parent, m.Point, m.ID)
			}
		}
	})
}
