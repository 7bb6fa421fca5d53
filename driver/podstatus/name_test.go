package podstatus_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
)

func TestNameIsUpstreams(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, test := range []struct{ pod, namespace, class, want string }{
		{"api-0", "payments", "db", "api-0-payments-db"},
		{"nginx-secrets-store-inline-crd", "default", "azure-kvname", "nginx-secrets-store-inline-crd-default-azure-kvname"},
		{"a.b", "n", "c.d", "a.b-n-c.d"},
		// 63+1+63+1+125 = 253: the longest that upstream can write.
		{long, long, strings.Repeat("c", 125), long + "-" + long + "-" + strings.Repeat("c", 125)},
	} {
		if got := podstatus.Name(test.pod, test.namespace, test.class); got != test.want {
			t.Errorf("Name(%q, %q, %q) = %q, want %q", test.pod, test.namespace, test.class, got, test.want)
		}
	}
}

func TestLongNameIsCut(t *testing.T) {
	long := strings.Repeat("a", 63)
	class := strings.Repeat("c", 126) // one byte too many
	got := podstatus.Name(long, long, class)
	// By sha256sum(1), of 63 a, a slash, 63 a, a slash and 126 c.
	want := long + "-" + long + "-" + strings.Repeat("c", 92) + "-" + "3723332e65ec8d6a164744ff9da4a416"
	if got != want {
		t.Errorf("Name = %q, want %q", got, want)
	}
	seen := map[string]string{}
	for _, pod := range []string{long, long[:62] + "b", long[:62]} {
		for _, tail := range []string{"x", "y", "-x"} {
			n := podstatus.Name(pod, long, class+tail)
			if before, ok := seen[n]; ok {
				t.Errorf("%s has the name of %s, %q", pod+class+tail, before, n)
			}
			seen[n] = pod + class + tail
		}
	}
}

// A cut must not end the name's last part in a separator.
func TestLongNameIsCutAtSeparators(t *testing.T) {
	for n := 1; n < 240; n++ {
		class := strings.Repeat("c", n) + ".-."[n%2:][:1] + strings.Repeat("d", 250-n)
		got := podstatus.Name("api-0", "payments", class)
		if faults := validation.IsDNS1123Subdomain(got); len(faults) > 0 {
			t.Fatalf("Name(%q) = %q, which is no name: %v", class, got, faults)
		}
	}
}

func TestNodeLabel(t *testing.T) {
	longest := strings.Repeat("n", 63)
	for node, want := range map[string]string{
		"node-1":  "node-1",
		longest:   longest,
		"ip-10-0": "ip-10-0",
		strings.Repeat("n", 45) + "." + strings.Repeat("m", 20): strings.Repeat("n", 45) + "-4d770090ad0fa849",
	} {
		if got := podstatus.NodeLabel(node); got != want {
			t.Errorf("NodeLabel(%q) = %q, want %q", node, got, want)
		}
	}
	a, b := podstatus.NodeLabel(longest+"a"), podstatus.NodeLabel(longest+"b")
	if a == b {
		t.Errorf("two nodes have the label %q", a)
	}
}

// FuzzName holds a name to what the API server takes, and two pods apart as far
// as upstream's names do.
func FuzzName(f *testing.F) {
	f.Add("api-0", "payments", "db", "node-1", "other")
	f.Add(strings.Repeat("a", 250), "n", strings.Repeat("b.", 100)+"c", strings.Repeat("node.", 50)+"x", "b")
	suffix := regexp.MustCompile(`-[0-9a-f]{32}$`)
	f.Fuzz(func(t *testing.T, pod, namespace, class, node, other string) {
		for _, s := range []string{pod, class, node, other} {
			if len(validation.IsDNS1123Subdomain(s)) > 0 {
				return // no object has such a name
			}
		}
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			return // no object is in such a namespace
		}
		got, plain := podstatus.Name(pod, namespace, class), fmt.Sprintf("%s-%s-%s", pod, namespace, class)
		if faults := validation.IsDNS1123Subdomain(got); len(faults) > 0 {
			t.Errorf("Name(%q, %q, %q) = %q: %v", pod, namespace, class, got, faults)
		}
		if len(plain) <= 253 && got != plain || len(plain) > 253 && !suffix.MatchString(got) {
			t.Errorf("Name(%q, %q, %q) = %q, want upstream's or one with a hash", pod, namespace, class, got)
		}
		// What upstream's name tells apart, ours does.
		if twin := other + "-" + namespace + "-" + class; twin != plain && podstatus.Name(other, namespace, class) == got {
			t.Errorf("pods %q and %q have the name %q", pod, other, got)
		}
		label := podstatus.NodeLabel(node)
		if faults := validation.IsValidLabelValue(label); len(faults) > 0 || len(node) <= 63 && label != node {
			t.Errorf("NodeLabel(%q) = %q: %v", node, label, faults)
		}
		if other != node && podstatus.NodeLabel(other) == label {
			t.Errorf("nodes %q and %q have the label %q", node, other, label)
		}
	})
}
