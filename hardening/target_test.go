package hardening_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

const (
	podUID   = "264de746-ed05-400f-b34a-a012602cab67"
	otherUID = "00000000-1111-2222-3333-444444444444"
)

func TestParseTargetPath(t *testing.T) {
	const root = "/var/lib/kubelet"
	good := root + "/pods/" + podUID + "/volumes/kubernetes.io~csi/secrets/mount"
	with := func(old, replacement string) string { return strings.Replace(good, old, replacement, 1) }
	tests := []struct {
		name, root, target string
		field              string // of the TargetError; none: accepted
	}{
		{"as the kubelet sends it", root, good, ""},
		{"root with a trailing slash", root + "/", good, ""},
		{"kubelet in /", "/", strings.TrimPrefix(good, root), ""},
		{"empty", root, "", "target_path"},
		{"relative", "var/lib/kubelet", good[1:], "target_path"},
		{"another root", "/var/lib/other", good, "target_path"},
		{"root as a prefix of a name", "/var/lib/kube", good, "target_path"},
		{"the root itself", root, root, "target_path"},
		{"trailing slash", root, good + "/", "target_path"},
		{"below the mount", root, good + "/x", "target_path"},
		{"without mount", root, path.Dir(good), "target_path"},
		{"staging path", root, root + "/plugins/kubernetes.io/csi/x/globalmount", "target_path"},
		{"another plugin", root, with("kubernetes.io~csi", "kubernetes.io~secret"), "target_path"},
		{"parent in the path", root, root + "/pods/../pods/" + podUID + "/volumes/kubernetes.io~csi/s/mount", "target_path"},
		{"double slash", root, with("/pods/", "/pods//"), "target_path"},
		{"dot", root, with("/volumes/", "/./volumes/"), "target_path"},
		{"upper-case uid", root, with(podUID, strings.ToUpper(podUID)), "pod uid"},
		{"uid of a static pod", root, with(podUID, strings.ReplaceAll(podUID, "-", "")), "pod uid"},
		{"uid too short", root, with(podUID, podUID[1:]), "pod uid"},
		{"dash misplaced", root, with(podUID, "264de746e-d05-400f-b34a-a012602cab67"), "pod uid"},
		{"no uid", root, with(podUID, ""), "pod uid"},
		{"uid of dots", root, with(podUID, ".."), "pod uid"},
		{"upper-case volume", root, with("secrets", "Secrets"), "volume name"},
		{"volume with a dot", root, with("secrets", "se.crets"), "volume name"},
		{"volume of dots", root, with("secrets", ".."), "volume name"},
		{"volume with a slash", root, with("secrets", "a/b"), "volume name"},
		{"no volume", root, with("secrets", ""), "volume name"},
		{"volume begins with a dash", root, with("secrets", "-s"), "volume name"},
		{"volume ends with a dash", root, with("secrets", "s-"), "volume name"},
		{"volume too long", root, with("secrets", strings.Repeat("s", 64)), "volume name"},
		{"volume with NUL", root, with("secrets", "s\x00"), "volume name"},
		{"newline", root, good + "\n", "target_path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uid, volume, err := hardening.ParseTargetPath(tt.root, tt.target)
			if tt.field == "" {
				if err != nil || uid != podUID || volume != "secrets" {
					t.Errorf("ParseTargetPath(%q) = %q, %q, %v, want %q, secrets, nil", tt.target, uid, volume, err, podUID)
				}
				if again := hardening.TargetPath(tt.root, uid, volume); again != tt.target {
					t.Errorf("TargetPath(%q, %q, %q) = %q, want %q", tt.root, uid, volume, again, tt.target)
				}
				return
			}
			e, ok := errors.AsType[*hardening.TargetError](err)
			if !ok || e.Field != tt.field {
				t.Errorf("ParseTargetPath(%q) = %q, %q, %v, want a TargetError of %q", tt.target, uid, volume, err, tt.field)
			}
			if uid != "" || volume != "" {
				t.Errorf("ParseTargetPath(%q) = %q, %q beside an error, want nothing", tt.target, uid, volume)
			}
		})
	}
}

func FuzzParseTargetPath(f *testing.F) {
	const root = "/var/lib/kubelet"
	good := root + "/pods/" + podUID + "/volumes/kubernetes.io~csi/secrets/mount"
	f.Add(root, good)
	f.Add("/", "/pods/"+podUID+"/volumes/kubernetes.io~csi/s/mount")
	f.Add("", good)
	f.Add(root, good+"/../mount")
	f.Add(root, "\x1b[31m"+good)
	f.Add(root, "\u037a")
	f.Add(".", "pods/"+podUID+"/volumes/kubernetes.io~csi/s/mount")
	f.Fuzz(func(t *testing.T, root, target string) {
		uid, volume, err := hardening.ParseTargetPath(root, target)
		if err != nil {
			if !printable(err.Error()) {
				t.Errorf("ParseTargetPath(%q) = %q, want printable text", target, err)
			}
			return
		}
		// What is accepted is the only spelling of itself.
		if want := hardening.TargetPath(root, uid, volume); target != want || !path.IsAbs(target) {
			t.Errorf("ParseTargetPath(%q, %q) = %q, %q, which spells %q", root, target, uid, volume, want)
		}
		if len(uid) != 36 || strings.ContainsAny(uid+volume, "/.\x00") || volume == "" {
			t.Errorf("ParseTargetPath(%q) = %q, %q, want a UUID and a label", target, uid, volume)
		}
	})
}

func TestState(t *testing.T) {
	var zero hardening.State
	if zero != hardening.StateUnknown {
		t.Errorf("zero State = %v, want unknown", zero)
	}
	want := map[hardening.State]string{
		hardening.StateUnknown: "unknown", hardening.StateAbsent: "absent", hardening.StateEmpty: "empty",
		hardening.StateOccupied: "occupied", hardening.StateOurs: "ours", hardening.StateCovered: "covered",
		hardening.StateLegacy: "legacy", hardening.StateForeign: "foreign", 99: "unknown", -1: "unknown",
	}
	for state, text := range want {
		if got := state.String(); got != text {
			t.Errorf("State(%d).String() = %q, want %q", int(state), got, text)
		}
	}
}

func TestParseSetting(t *testing.T) {
	for _, s := range []string{"auto", "noswap", "mlock"} {
		if got, err := hardening.ParseSetting(s); err != nil || string(got) != s {
			t.Errorf("ParseSetting(%q) = %q, %v, want %q, nil", s, got, err, s)
		}
	}
	for _, s := range []string{"", "none", "Auto", "noswap ", "off\x1b[0m"} {
		got, err := hardening.ParseSetting(s)
		e, ok := errors.AsType[*hardening.ConfigError](err)
		if got != "" || !ok || e.Field != "--swap-protection" || !strings.Contains(e.Remedy, "noswap") || !printable(err.Error()) {
			t.Errorf("ParseSetting(%q) = %q, %v, want nothing and a ConfigError that names the flag and its values", s, got, err)
		}
	}
}
