package manifests_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// seen is what a decision reads of the pod: "" if the file is refused.
func seen(t *testing.T, text string) string {
	t.Helper()
	d, err := manifests.Open(directory(t, "pod.yaml", text))
	if err != nil {
		if len(err.Error()) > 1000 {
			t.Errorf("Open(...) = an error of %d bytes, want a line", len(err.Error()))
		}
		return ""
	}
	defer d.Close()
	pod, err := d.Pod(t.Context(), "payments", "api-0", "")
	if err != nil {
		return "no pod"
	}
	facts := "writable"
	if r := pod.Spec.Volumes[0].CSI.ReadOnly; r != nil && *r {
		facts = "read-only"
	}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		facts += fmt.Sprintf(" %s %d", pod.Spec.ServiceAccountName, *sc.FSGroup)
	}
	return facts
}

// What Kubernetes' own reader of YAML makes of a manifest is what is decided
// on; what it could make in two ways is refused. There is no second reader.
func TestYAMLTricks(t *testing.T) {
	for _, test := range tricks() {
		t.Run(test.name, func(t *testing.T) {
			if got := seen(t, test.text); got != test.want {
				t.Errorf("what is decided on = %q, want %q", got, test.want)
			}
		})
	}
}

type trick struct{ name, text, want string }

func tricks() []trick {
	line := func(from, to string) string {
		if !strings.Contains(podYAML, from) {
			return "not in the manifest: " + from
		}
		return strings.Replace(podYAML, from, to, 1)
	}
	const decent = "read-only api 2000"
	return []trick{
		{"as it is", podYAML, decent},
		{"yes as kubectl reads it", line("readOnly: true", "readOnly: yes"), decent},
		{"off as kubectl reads it", line("readOnly: true", "readOnly: off"), "writable api 2000"},
		{"text for a boolean", line("readOnly: true", `readOnly: "true"`), ""},
		{"number for a boolean", line("readOnly: true", "readOnly: 1"), ""},
		{"octal as kubectl reads it", line("fsGroup: 2000", "fsGroup: 03720"), decent},
		{"text for a number", line("fsGroup: 2000", `fsGroup: "2000"`), ""},
		{"sexagesimal", line("fsGroup: 2000", "fsGroup: 33:20"), ""},
		{"fraction", line("fsGroup: 2000", "fsGroup: 2000.5"), ""},
		{"beyond 64 bits", line("fsGroup: 2000", "fsGroup: 18446744073709551616"), ""},
		{"key twice", line("fsGroup: 2000", "fsGroup: 2000, fsGroup: 0"), ""},
		{"key twice by an escape", line("readOnly: true", `readOnly: true, "read\u004fnly": false`), ""},
		{"key in another case", line("readOnly: true", "readOnly: true, readonly: false"), ""},
		{"two kinds", podYAML + "kind: Pod\n", ""},
		{"merge key", line("readOnly: true", "<<: {readOnly: true}"), decent},
		{"merge key that loses", line("readOnly: true", "<<: {readOnly: false}, readOnly: true"), ""},
		{"anchor and alias", line("fsGroup: 2000", "fsGroup: &x 2000, runAsUser: *x"), decent},
		{"alias of itself", line("{fsGroup: 2000}", "&x {fsGroup: 2000, seLinuxOptions: *x}"), ""},
		{"own tag", line("fsGroup: 2000", "fsGroup: !x 2000"), ""},
		{"tag of text", line("fsGroup: 2000", "fsGroup: !!str 2000"), ""},
		{"tab for indentation", line("\nspec:", "\n\tspec:"), ""},
		{"byte order mark", "\ufeff" + podYAML, decent},
		{"Windows line ends", strings.ReplaceAll(podYAML, "\n", "\r\n"), decent},
		{"second document behind an end", podYAML + "...\n" + namespaceYAML, ""},
		{"deep flow", podYAML + "---\n" + strings.Repeat("[", 100_000), ""},
		{"deep maps", podYAML + "---\n" + strings.Repeat("{a: ", 50_000), ""},
		{"deep JSON", podYAML + "---\n" + strings.Repeat(`{"a":`, 50_000), ""},
		{"NUL", podYAML + "# \x00\n", ""},
		{"not UTF-8", podYAML + "# \xff\n", ""},
	}
}
