package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/hardening"
)

func file(p string, mode fs.FileMode) hardening.File {
	return hardening.File{Path: p, Mode: mode, Data: plain("value of " + p)}
}

func owned(p string, uid int, mode fs.FileMode) hardening.File {
	f := file(p, mode)
	f.UID = uid
	return f
}

var (
	anyone  = hardening.Limits{Bytes: 1 << 20}
	grouped = hardening.Limits{Bytes: 1 << 20, GID: 2000}
)

func TestLayout(t *testing.T) {
	files := []hardening.File{file("tls/key", 0o440), file("user", 0o440), owned("tls/sub/x", 1000, 0o400), file("tls/cert", 0o400)}
	got, err := hardening.NewLayout(files, grouped)
	if err != nil {
		t.Fatalf("NewLayout() = %v, want nil", err)
	}
	want := hardening.Layout{
		Paths: []string{"tls/cert", "tls/key", "tls/sub/x", "user"},
		Dirs:  []string{"tls", "tls/sub"},
		Names: []string{"tls", "user"},
		Entries: []hardening.FileInfo{
			{Path: "tls", GID: 2000, Mode: fs.ModeDir | 0o750},
			{Path: "tls/cert", Size: 17, GID: 2000, Mode: 0o400},
			{Path: "tls/key", Size: 16, GID: 2000, Mode: 0o440},
			{Path: "tls/sub", GID: 2000, Mode: fs.ModeDir | 0o750},
			{Path: "tls/sub/x", Size: 18, UID: 1000, GID: 2000, Mode: 0o400},
			{Path: "user", Size: 13, GID: 2000, Mode: 0o440},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("NewLayout() differs (-want +got):\n%s", diff)
	}
}

func TestLayoutLeavesTheArgumentAlone(t *testing.T) {
	files := []hardening.File{file("b", 0o444), file("a", 0o444)}
	if _, err := hardening.NewLayout(files, anyone); err != nil {
		t.Fatalf("NewLayout() = %v, want nil", err)
	}
	if files[0].Path != "b" || files[1].Path != "a" {
		t.Errorf("NewLayout() sorted its argument: %q, %q", files[0].Path, files[1].Path)
	}
}

func TestCheckPath(t *testing.T) {
	long := strings.Repeat("x", 255)
	tests := []struct {
		name, path, reason string // no reason: accepted
	}{
		{name: "plain", path: "password"},
		{name: "directory", path: "db/password"},
		{name: "hidden", path: ".pgpass"},
		{name: "dots inside", path: "a..b"},
		{name: "trailing dots", path: "a.."},
		{name: "longest element", path: long},
		{name: "deepest", path: "1/2/3/4/5/6/7/8"},
		{name: "blank and newline", path: "a b\n"},
		{name: "not UTF-8", path: "\xff"},
		{name: "backslash is no separator", path: `..` + `\x`, reason: "two dots"},
		{name: "empty", path: "", reason: "empty"},
		{name: "absolute", path: "/etc/passwd", reason: "absolute"},
		{name: "dot", path: ".", reason: "not clean"},
		{name: "parent", path: "..", reason: "two dots"},
		{name: "parent first", path: "../x", reason: "two dots"},
		{name: "parent inside", path: "a/../x", reason: "not clean"},
		{name: "parent deep", path: "a/..b/x", reason: "two dots"},
		{name: "our own link", path: "..data", reason: "two dots"},
		{name: "below our own link", path: "..data/x", reason: "two dots"},
		{name: "three dots", path: "...", reason: "two dots"},
		{name: "trailing slash", path: "a/", reason: "not clean"},
		{name: "double slash", path: "a//b", reason: "not clean"},
		{name: "dot inside", path: "a/./b", reason: "not clean"},
		{name: "NUL", path: "a\x00b", reason: "NUL"},
		{name: "element too long", path: long + "x", reason: "255"},
		{name: "too deep", path: "1/2/3/4/5/6/7/8/9", reason: "8 elements"},
		{name: "too long", path: strings.Repeat("a/", 2048) + "a", reason: "4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := hardening.CheckPath(tt.path)
			if tt.reason == "" {
				if err != nil {
					t.Errorf("CheckPath(%q) = %v, want nil", tt.path, err)
				}
				return
			}
			e, ok := errors.AsType[*hardening.PathError](err)
			if !ok || !strings.Contains(e.Reason, tt.reason) || e.Remedy == "" {
				t.Errorf("CheckPath(%q) = %v, want a PathError with %q and a remedy", tt.path, err, tt.reason)
			}
		})
	}
}

func FuzzFilePath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../x", "..data/x", "/x", "", "a\x00", "a/../../x", strings.Repeat("x/", 9) + "x", "a\\..\\b", "\xff/..", "\x00\u0738"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if err := hardening.CheckPath(p); err != nil {
			if !printable(err.Error()) {
				t.Errorf("CheckPath(%q) = %q, want printable text", p, err)
			}
			return
		}
		// What is accepted stays below any directory it is joined to, and
		// cannot be one of the volume's own names.
		joined := path.Join("/gen", p)
		if !strings.HasPrefix(joined, "/gen/") || joined != "/gen/"+p {
			t.Errorf("CheckPath(%q) = nil, but it joins to %q", p, joined)
		}
		for _, e := range strings.Split(p, "/") {
			if e == "" || e == "." || strings.HasPrefix(e, "..") || len(e) > 255 {
				t.Errorf("CheckPath(%q) = nil, want the element %q refused", p, e)
			}
		}
		if _, err := hardening.NewLayout([]hardening.File{{Path: p, Mode: 0o444, Data: plain("x")}}, anyone); err != nil {
			t.Errorf("NewLayout(%q) = %v, want nil as CheckPath has it", p, err)
		}
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r > 0x7e })
}

func TestFileModes(t *testing.T) {
	tests := []struct {
		name   string
		limits hardening.Limits
		file   hardening.File
		ok     bool
	}{
		{"all may read without a group", anyone, file("f", 0o444), true},
		{"group bits without a group", anyone, file("f", 0o440), true},
		{"owner only", anyone, file("f", 0o400), true},
		{"members may read with a group", grouped, file("f", 0o440), true},
		{"only the group", grouped, file("f", 0o040), true},
		{"own owner", grouped, owned("f", 1000, 0o400), true},
		{"own owner without a group", anyone, owned("f", 1000, 0o400), true},
		{"others with a group", grouped, file("f", 0o444), false},
		{"group beside an owner", grouped, owned("f", 1000, 0o440), false},
		{"others beside an owner", anyone, owned("f", 1000, 0o404), false},
		{"nobody", anyone, file("f", 0), false},
		{"writable", anyone, file("f", 0o644), false},
		{"group writable", grouped, file("f", 0o460), false},
		{"executable", anyone, file("f", 0o555), false},
		{"setuid", anyone, file("f", fs.ModeSetuid|0o400), false},
		{"setgid", anyone, file("f", fs.ModeSetgid|0o400), false},
		{"sticky", anyone, file("f", fs.ModeSticky|0o400), false},
		{"setuid in Unix bits", anyone, file("f", 0o4444), false},
		{"a directory", anyone, file("f", fs.ModeDir|0o444), false},
		{"a device", anyone, file("f", fs.ModeDevice|0o444), false},
		{"a link", anyone, file("f", fs.ModeSymlink|0o444), false},
		{"negative owner", anyone, owned("f", -1, 0o400), false},
		{"owner beyond 31 bits", anyone, owned("f", 1<<31, 0o400), false},
		{"no content", anyone, hardening.File{Path: "f", Mode: 0o400}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := hardening.NewLayout([]hardening.File{tt.file}, tt.limits)
			if tt.ok {
				if err != nil {
					t.Errorf("NewLayout(mode %v, uid %d) = %v, want nil", tt.file.Mode, tt.file.UID, err)
				}
				return
			}
			if e, ok := errors.AsType[*hardening.PathError](err); !ok || e.Path != "f" || e.Remedy == "" {
				t.Errorf("NewLayout(mode %v, uid %d) = %v, want a PathError with a remedy", tt.file.Mode, tt.file.UID, err)
			}
		})
	}
}

func TestEveryModeBeyondTheCeilingIsRefused(t *testing.T) {
	// Exhaustive over the twelve Unix bits, for each kind of volume.
	for _, tt := range []struct {
		limits  hardening.Limits
		uid     int
		ceiling fs.FileMode
	}{{anyone, 0, 0o444}, {grouped, 0, 0o440}, {anyone, 7, 0o400}, {grouped, 7, 0o400}} {
		for mode := fs.FileMode(0); mode <= 0o7777; mode++ {
			_, err := hardening.NewLayout([]hardening.File{owned("f", tt.uid, mode)}, tt.limits)
			want := mode != 0 && mode&^tt.ceiling == 0
			if (err == nil) != want {
				t.Errorf("NewLayout(mode %#o, uid %d, gid %d) = %v, want accepted %v", mode, tt.uid, tt.limits.GID, err, want)
			}
		}
	}
}

func TestLayoutConflicts(t *testing.T) {
	tests := []struct {
		name  string
		paths []string
		ok    bool
	}{
		{"different names", []string{"a", "b"}, true},
		{"same directory", []string{"a/x", "a/y"}, true},
		{"common beginning", []string{"a", "ab/c", "a.b"}, true},
		{"twice", []string{"a", "a"}, false},
		{"file and directory", []string{"a", "a/b"}, false},
		{"directory and file", []string{"a/b", "a"}, false},
		{"file and far directory", []string{"a", "a/b/c/d"}, false},
		{"inner file and directory", []string{"x/a", "x/a/b"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var files []hardening.File
			for _, p := range tt.paths {
				files = append(files, file(p, 0o444))
			}
			_, err := hardening.NewLayout(files, anyone)
			if _, refused := errors.AsType[*hardening.PathError](err); refused == tt.ok {
				t.Errorf("NewLayout(%q) = %v, want accepted %v", tt.paths, err, tt.ok)
			}
		})
	}
}

func TestLayoutLimits(t *testing.T) {
	many := func(n int, dir string) []hardening.File {
		var files []hardening.File
		for i := range n {
			files = append(files, file(fmt.Sprintf("%s%03d", dir, i), 0o444))
		}
		return files
	}
	sized := func(sizes ...int) []hardening.File {
		var files []hardening.File
		for i, n := range sizes {
			files = append(files, hardening.File{Path: fmt.Sprint(i), Mode: 0o444, Data: hardening.NewPlaintext(make([]byte, n))})
		}
		return files
	}
	tests := []struct {
		name   string
		limits hardening.Limits
		files  []hardening.File
		field  string // of the LimitError; none: accepted
	}{
		{"most files", anyone, many(64, ""), ""},
		{"too many files", anyone, many(65, ""), "files"},
		{"exactly full", hardening.Limits{Bytes: 8192}, sized(4096, 4096), ""},
		{"small files count as pages", hardening.Limits{Bytes: 8192}, sized(1, 1), ""},
		{"three small files in two pages", hardening.Limits{Bytes: 8192}, sized(1, 1, 1), "volume bytes"},
		{"a byte too many", hardening.Limits{Bytes: 8192}, sized(8193), "volume bytes"},
		{"budget is rounded up", hardening.Limits{Bytes: 5000}, sized(8192), ""},
		{"empty files are free", hardening.Limits{Bytes: 1}, sized(0, 0, 0), ""},
		{"a long name takes a page", hardening.Limits{Bytes: 4096}, []hardening.File{file(strings.Repeat("n", 121), 0o444)}, "volume bytes"},
		{"a name just short enough", hardening.Limits{Bytes: 4096}, []hardening.File{file(strings.Repeat("n", 120), 0o444)}, ""},
		{"inodes full", hardening.Limits{Bytes: 1 << 20, Inodes: 4}, many(3, "d/"), ""},
		{"directories are inodes", hardening.Limits{Bytes: 1 << 20, Inodes: 4}, many(4, "d/"), "volume inodes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := hardening.NewLayout(tt.files, tt.limits)
			e, limited := errors.AsType[*hardening.LimitError](err)
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("NewLayout() = %v, want nil", err)
			case tt.field != "" && (!limited || e.Field != tt.field || e.Remedy == "" || e.Got <= e.Max):
				t.Errorf("NewLayout() = %v, want a LimitError of %q with a remedy", err, tt.field)
			}
		})
	}
}

func TestLayoutWithoutFiles(t *testing.T) {
	if _, err := hardening.NewLayout(nil, anyone); !errors.Is(err, hardening.ErrNoFiles) {
		t.Errorf("NewLayout(nil) = %v, want %v", err, hardening.ErrNoFiles)
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		limits hardening.Limits
		field  string
	}{
		{"ordinary", anyone, ""},
		{"largest", hardening.Limits{Bytes: 64 << 20, Inodes: 1024, GID: 1<<31 - 1}, ""},
		{"zero value", hardening.Limits{}, "volume bytes"},
		{"negative bytes", hardening.Limits{Bytes: -1}, "volume bytes"},
		{"too many bytes", hardening.Limits{Bytes: 64<<20 + 1}, "volume bytes"},
		{"negative inodes", hardening.Limits{Bytes: 1, Inodes: -1}, "volume inodes"},
		{"too many inodes", hardening.Limits{Bytes: 1, Inodes: 1025}, "volume inodes"},
		{"negative group", hardening.Limits{Bytes: 1, GID: -1}, "volume group"},
		{"group out of range", hardening.Limits{Bytes: 1, GID: 1 << 31}, "volume group"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := hardening.ValidateLimits(tt.limits)
			e, ok := errors.AsType[*hardening.LimitError](err)
			if (err == nil) != (tt.field == "") || ok && e.Field != tt.field {
				t.Errorf("validate(%+v) = %v, want a LimitError of %q", tt.limits, err, tt.field)
			}
		})
	}
}

func TestSizeLeavesRoomForTwoGenerations(t *testing.T) {
	for _, tt := range []struct{ bytes, want int64 }{
		{1, 3 * 4096}, {4096, 3 * 4096}, {4097, 5 * 4096}, {1 << 20, 2<<20 + 4096},
	} {
		if got := (hardening.Limits{Bytes: tt.bytes}).SizeBytes(); got != tt.want {
			t.Errorf("SizeBytes(%d) = %d, want %d", tt.bytes, got, tt.want)
		}
	}
	if got := hardening.NrInodes(hardening.Limits{Inodes: 10}); got != 46 {
		t.Errorf("nrInodes(10) = %d, want 46", got)
	}
	if got := hardening.NrInodes(hardening.Limits{}); got != 518 {
		t.Errorf("nrInodes(default) = %d, want 518", got)
	}
}
