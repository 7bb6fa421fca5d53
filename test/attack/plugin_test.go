//go:build attack

package attack_test

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// plugin is portcullis-node, running or ended.
type plugin struct {
	*plugintest.Plugin

	n *node
}

// launch starts the plugin and does not wait for anything. Flags come after
// those of the node, and win.
func (n *node) launch(flags ...string) *plugin {
	n.t.Helper()
	args := []string{
		"--nodeid=" + nodeName, "--cluster-name=test", "--policy=" + n.path("policy"), "--allow-unsigned-policy",
		"--manifests=" + n.path("manifests"), "--state-dir=" + n.path("state"), "--kubelet-root=" + n.path("kubelet"),
		"--endpoint=unix://" + n.path("csi.sock"), "--provider-volume=" + n.path("providers"), "--additional-provider-volume-paths=",
		"--metrics-addr=" + n.metrics, "--health-addr=" + n.health,
	}
	p := &plugin{n: n}
	n.last = p
	n.t.Cleanup(func() {
		if n.t.Failed() && n.last == p {
			n.t.Logf("the last plugin wrote\n%s", p.Stderr())
		}
	})
	p.Plugin = plugintest.Launch(n.t, plugintest.Config{
		Program: program(n.t, "portcullis-node", n.tags), Socket: n.path("csi.sock"), Args: slices.Concat(args, n.flags, flags), Env: n.env,
	})
	return p
}

// start starts the plugin, waits until it serves, and registers it as kubelet
// does.
func (n *node) start(flags ...string) *plugin {
	n.t.Helper()
	p := n.launch(flags...)
	p.AwaitServing()
	return p
}

func (p *plugin) publish(target pod) error { return p.Publish(target.request()) }

func (p *plugin) unpublish(target pod) error { return p.Unpublish("csi-"+target.uid, target.target) }

// locked returns the files whose pages the plugin has locked, by the kernel's
// word: device and inode as in proc_pid_smaps(5). Paths would not do, since a
// volume is filled before it has one.
func (p *plugin) locked() map[string]bool {
	p.n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", p.Cmd.Process.Pid))
	if err != nil {
		p.n.t.Fatal(err)
	}
	files, file := map[string]bool{}, ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case !strings.HasSuffix(f[0], ":"):
			file = f[3] + " " + f[4]
		case f[0] == "VmFlags:" && slices.Contains(f, "lo"):
			files[file] = true
		}
	}
	return files
}

// opens reports whether the plugin has anything open on a file system.
func (p *plugin) opens(device uint64) bool {
	p.n.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid)
	for _, fd := range entries(p.n.t, dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir+"/"+fd, &st); err == nil && st.Dev == device {
			return true
		}
	}
	return false
}
