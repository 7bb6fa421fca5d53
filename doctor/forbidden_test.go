package doctor_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/portcullis-csi/portcullis/doctor"
)

// unanswered are facts of a cluster that answers nothing but with one error.
func unanswered(err error) *doctor.Facts {
	f := good()
	c := f.Cluster
	c.Nodes.Err, c.DriverObject.Err, c.Definitions.Err = err, err, err
	c.Rights.Err, c.ServiceAccount.Err, c.DaemonSets.Err = err, err, err
	c.CSINodes.Err, c.Volumes.Err, c.Classes.Err = err, err, err
	c.Statuses.Err, c.Pods.Err, c.Events.Err = err, err, err
	c.Policies.Err, c.Bindings.Err, c.Webhooks.Err = err, err, err
	c.Endpoints.Err, c.Daemons.Err, c.Floor.Err = err, err, err
	return f
}

// What could not be looked at is never OK, and never in order: a cluster whose
// administrator forbids everything is not healthy by silence.
func TestNothingIsOKUnseen(t *testing.T) {
	for name, err := range map[string]error{"forbidden": doctor.ErrForbidden, "broken": errBroken} {
		f := unanswered(err)
		f.Node = nil
		results := doctor.Run(f).Results
		if len(results) < 15 {
			t.Errorf("%s: %d results, want one of each check at least", name, len(results))
		}
		for _, r := range results {
			switch {
			case slices.Contains([]string{"csidriver.audiences", "policy.origin", "policy.break-glass", "policy.end", "policy.candidate"}, r.Check):
				if r.Status != doctor.NA {
					t.Errorf("%s: %s = %+v, want n/a: another check says why", name, r.Check, r)
				}
			case r.Status != doctor.Warn || r.Hint == "" || !strings.Contains(r.Finding, "could not be looked at"):
				t.Errorf("%s: %s = %+v, want WARN and a hint", name, r.Check, r)
			}
		}
	}
}

// The plugin's own account may read little by design: that is no warning.
func TestOwnAccountSeesLittle(t *testing.T) {
	f := unanswered(doctor.ErrForbidden)
	f.Cluster.Host = doctor.InCluster
	f.Node = nil
	r := doctor.Run(f)
	if len(r.Results) < 15 || !r.Healthy(true) {
		t.Errorf("%d results, healthy %t, want n/a alone", len(r.Results), r.Healthy(true))
	}
	for _, result := range r.Results {
		if result.Status != doctor.NA {
			t.Errorf("%s = %+v, want n/a", result.Check, result)
		}
	}
	if text := r.Parts[1].Detail; text != doctor.InCluster {
		t.Errorf("the cluster is %q, want %q", text, doctor.InCluster)
	}
}

// An older API server has no admission policies, and that is no fault.
func TestWhatIsNotServedIsNotInstalled(t *testing.T) {
	f := unanswered(doctor.ErrNotServed)
	f.Node = nil
	for _, r := range doctor.Run(f).Results {
		if r.Status != doctor.NA {
			t.Errorf("%s = %+v, want n/a", r.Check, r)
		}
	}
}

// A node whose kernel, kubelet and plugin say nothing is in trouble, not in order.
func TestEmptyNodeIsNotHealthy(t *testing.T) {
	f := good()
	f.Node, f.Cluster = &doctor.Node{}, nil
	r := doctor.Run(f)
	if r.Healthy(false) {
		t.Error("Healthy() = true of a node of which nothing is known")
	}
	for _, result := range r.Results {
		if strings.HasPrefix(result.Check, "kernel.") && result.Status == doctor.OK {
			t.Errorf("%s = %+v of a kernel that nobody asked", result.Check, result)
		}
	}
}

// Where a node is and who looks is in the first line.
func TestFirstLineSaysWho(t *testing.T) {
	f := good()
	if text := doctor.Run(f).Parts[0].Detail; text != "node1 with the kubelet root /var/lib/kubelet, as root" {
		t.Errorf("the node is %q", text)
	}
	f.Node.Root = false
	if text := doctor.Run(f).Parts[0].Detail; !strings.HasSuffix(text, "not as root, so that some checks know less") {
		t.Errorf("the node is %q for somebody who is not root", text)
	}
}

// A legacy volume of a pod that no cluster names is named by its UID.
func TestLegacyVolumeWithoutACluster(t *testing.T) {
	f := good()
	f.Cluster = nil
	f.Node.Volumes.Value[0].Legacy = true
	for _, r := range doctor.Run(f).Results {
		if r.Check == "node.volumes" && r.Status == doctor.Warn {
			if r.Finding != "volume secrets of pod uid-api was mounted by the upstream driver" {
				t.Errorf("node.volumes = %q", r.Finding)
			}
			return
		}
	}
	t.Error("the volume of the upstream driver is not told")
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", " a\n\tb\r ": "a  b", "\x1b[2J": "?[2J", "ä\u202e\xff": "???",
		strings.Repeat("x", 500): strings.Repeat("x", 400) + "...",
	} {
		if got := doctor.Printable(text); got != want {
			t.Errorf("Printable(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b]0;title\x07")
	f.Add("ä")
	f.Fuzz(func(t *testing.T, text string) {
		got := doctor.Printable(text)
		if len(got) > 403 || !utf8.ValidString(got) {
			t.Errorf("Printable(%q) has %d bytes", text, len(got))
		}
		for _, r := range got {
			if r < ' ' || r > '~' {
				t.Errorf("Printable(%q) = %q has %q", text, got, r)
			}
		}
		if again := doctor.Printable(got); len(got) <= 400 && again != got {
			t.Errorf("Printable(%q) = %q, want it unchanged", got, again)
		}
	})
}
