package driver_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// orphanWait is the driver's.
const orphanWait = 10 * time.Minute

// note is what kubelet keeps beside a volume.
func (n *node) note(p pod) string {
	return filepath.Join(filepath.Dir(n.target(p)), "vol_data.json")
}

// orphan makes a mounted volume whose pod is gone from the cluster and from
// kubelet.
func (n *node) orphan(p pod) {
	n.t.Helper()
	n.mustPublish(p)
	n.write("pod-"+p.uid+".yaml", "")
	if err := os.Remove(n.note(p)); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Fatal(err)
	}
}

func (n *node) sweepAfter(d time.Duration) {
	n.clock.advance(d)
	n.driver.Sweep(n.t.Context())
}

func (n *node) expectMounted(p pod) {
	n.t.Helper()
	if lines := mountLines(n.t, n.target(p)); len(lines) != 1 {
		n.t.Errorf("mounts at the target = %q, want one", lines)
	}
	n.expectContent(p, secretFiles())
}

func TestSweepRemovesAnOrphan(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.orphan(apiPod())
		if err := n.driver.Recover(nil); err != nil {
			t.Fatal(err)
		}
		n.sweepAfter(0)
		n.expectMounted(apiPod())
		if got := n.gauge("portcullis_orphaned_volumes"); got != 1 {
			t.Errorf("portcullis_orphaned_volumes = %d, want 1", got)
		}
		n.sweepAfter(orphanWait - time.Second)
		n.expectMounted(apiPod())
		n.sweepAfter(2 * time.Second)
		n.expectNothing(apiPod())
		if _, ok := n.records.Get(apiUID, volume); ok {
			t.Error("the record of a removed volume stayed")
		}
		if got := n.gauge("portcullis_orphaned_volumes"); got != 0 {
			t.Errorf("portcullis_orphaned_volumes = %d, want 0", got)
		}
		n.expectEvents("PC2001I intent", "PC2001I complete", "PC2003I  Orphaned")
	})
}

func TestSweepLeavesWhatMayBeSomebodys(t *testing.T) {
	shared := func(n *node) {} // the pod is in the cluster
	for name, c := range map[string]struct {
		gone   bool
		before func(*node)
	}{
		"the pod is in the cluster":        {false, shared},
		"kubelet has its note":             {true, func(n *node) { n.touch(n.note(apiPod())) }},
		"the note is a link":               {true, func(n *node) { n.must(os.Symlink("/nowhere", n.note(apiPod()))) }},
		"the API server does not answer":   {true, func(n *node) { n.write("objects.yaml", "}{") }},
		"a process has a file open":        {true, func(n *node) { n.hold(filepath.Join(n.target(apiPod()), "password")) }},
		"a process is in the directory":    {true, func(n *node) { n.hold(n.target(apiPod())) }},
		"a container has it mounted":       {true, func(n *node) { n.container() }},
		"a bind of it is in the namespace": {true, func(n *node) { n.writable(apiPod()) }},
		"somebody mounted over it":         {true, func(n *node) { mountAt(n.t, n.target(apiPod()), "cover") }},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.mustPublish(apiPod())
			lines := mountLines(t, n.target(apiPod()))
			if c.gone {
				n.orphan(apiPod())
			}
			c.before(n)
			lines = append(lines, mountLines(t, n.target(apiPod()))[1:]...)
			for range 4 {
				n.sweepAfter(orphanWait + time.Minute)
			}
			if got := mountLines(t, n.target(apiPod())); len(got) != len(lines) {
				t.Fatalf("mounts at the target = %q, want %q", got, lines)
			}
			if len(lines) == 1 {
				n.expectContent(apiPod(), secretFiles())
			}
		})
	}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) touch(path string) {
	n.t.Helper()
	n.must(os.WriteFile(path, []byte("{}"), 0o600))
}

// hold keeps a file or directory open until the test ends.
func (n *node) hold(path string) {
	n.t.Helper()
	f, err := os.Open(path)
	n.must(err)
	n.t.Cleanup(func() { n.closed(f.Close()) })
}

// container is a process with the volume mounted in a namespace of its own.
func (n *node) container() {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), "unshare", "--mount", "/bin/sh", "-ec", `mount --bind "$0" "$1"; echo ready; read wait`, n.target(apiPod()), n.t.TempDir())
	in, err := cmd.StdinPipe()
	n.must(err)
	out, err := cmd.StdoutPipe()
	n.must(err)
	n.must(cmd.Start())
	n.t.Cleanup(func() {
		n.closed(in.Close())
		_ = cmd.Wait() // read(1) at the end of its input
	})
	if _, err := out.Read(make([]byte, 6)); err != nil {
		n.t.Fatalf("container: %v", err)
	}
}

func TestSweepBeginsAnew(t *testing.T) {
	for name, between := range map[string]func(*node){
		"when the pod is back": func(n *node) { n.add(apiPod()); n.sweepAfter(orphanWait); n.write("pod-"+apiUID+".yaml", "") },
		"when kubelet was back": func(n *node) {
			n.touch(n.note(apiPod()))
			n.sweepAfter(time.Second)
			n.must(os.Remove(n.note(apiPod())))
		},
		"when the clock was set back": func(n *node) { n.sweepAfter(-time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.orphan(apiPod())
			n.sweepAfter(0)
			between(n)
			n.sweepAfter(0)
			n.sweepAfter(orphanWait - time.Minute)
			n.expectMounted(apiPod())
			n.sweepAfter(2 * time.Minute)
			n.expectNothing(apiPod())
		})
	}
}

func TestSweepLeavesOthersMountsAlone(t *testing.T) {
	n := newNode(t)
	mountAt(t, n.target(apiPod()), "somebody")
	n.write("pod-"+apiUID+".yaml", "")
	for range 3 {
		n.sweepAfter(orphanWait)
	}
	if lines := mountLines(t, n.target(apiPod())); len(lines) != 1 {
		t.Errorf("foreign mounts = %q, want one", lines)
	}
	n.must(unix.Unmount(n.target(apiPod()), unix.MNT_DETACH))
}

func TestUnpublishOfAnOrphanStillWorks(t *testing.T) {
	n := newNode(t, func(s *setup) { s.provider.Handler = providertest.Files(secretFiles()) })
	n.orphan(apiPod())
	n.sweepAfter(0)
	n.mustUnpublish(apiPod())
	n.expectNothing(apiPod())
	if got := n.gauge("portcullis_orphaned_volumes"); got != 0 {
		t.Errorf("portcullis_orphaned_volumes = %d, want 0", got)
	}
}
