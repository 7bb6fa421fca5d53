//go:build attack

package swap_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// TestP5TheBuiltPluginReachesSwapWithNothing forces reclaim on the program
// itself: it has mounted volumes, was killed and started again, has mounted
// another, and waits for a provider with a token in its memory.
func TestP5TheBuiltPluginReachesSwapWithNothing(t *testing.T) {
	hardeningtest.NeedRoot(t)
	hardeningtest.NeedKernel(t, 5, 12, "mount_setattr")
	binary := build(t, "portcullis-node")
	for _, s := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		t.Run(string(s), func(t *testing.T) {
			if s == hardening.SettingNoswap {
				hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
			}
			reclaimPlugin(t, newProof(t), binary, s)
		})
	}
}

// waitingProvider serves a secret of a pod's own, and makes one pod wait.
type waitingProvider struct {
	*providertest.Provider
	secrets map[string][]byte // by pod
	asked   chan struct{}     // the slow pod is here
	release chan struct{}
}

func newWaitingProvider(t *testing.T, p *proof) *waitingProvider {
	w := &waitingProvider{secrets: map[string][]byte{}, asked: make(chan struct{}, 1), release: make(chan struct{})}
	w.secrets["early"] = pagesOf(p.safe("file of a volume that was mounted before the restart"), filePages/4)
	w.secrets["late"] = pagesOf(p.safe("file of a volume that was mounted after it"), filePages/4)
	w.secrets["slow"] = []byte("late")
	w.Provider = providertest.New(t, w.answer)
	return w
}

func (w *waitingProvider) answer(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	for pod, secret := range w.secrets {
		if !strings.Contains(r.GetAttributes(), `"csi.storage.k8s.io/pod.name":"`+pod+`"`) {
			continue
		}
		if pod == "slow" {
			w.asked <- struct{}{}
			select {
			case <-w.release:
			case <-ctx.Done():
			}
		}
		return providertest.Response(map[string]string{"secret": string(secret)}), nil
	}
	return nil, fmt.Errorf("no such pod in %q", r.GetAttributes())
}

func reclaimPlugin(t *testing.T, p *proof, binary string, s hardening.Setting) {
	// Controls: a tmpfs of the same cgroup, and a process that is not locked.
	pager := startChild(t, "pager", born{})
	pager.ask(t, "hold", newHost(t, p, hardening.SettingMlock).plain(t, p.control("plain tmpfs")))
	unprotected := startChild(t, "unprotected", born{group: p.group})
	unprotected.ask(t, "hold", p.control("process without ProtectProcess"))

	w := newWaitingProvider(t, p)
	n := newPlugin(t, binary, w.Dir, "--swap-protection="+string(s))
	n.start(t, born{group: p.group})
	n.publish(t, "early", "any")
	n.kill(t)
	n.start(t, born{group: p.group})
	n.publish(t, "late", strings.Repeat(p.safe("token of a call that is over"), 32))

	token := p.safe("token of a call in progress")
	done := make(chan error, 1)
	node := n.node(t)
	go func() {
		_, err := node.NodePublishVolume(context.WithoutCancel(t.Context()), n.publishRequest("slow", strings.Repeat(token, 32)))
		done <- err
	}()
	select {
	case <-w.asked:
	case err := <-done:
		t.Fatalf("NodePublishVolume(slow) = %v before the provider answered\n%s", err, n.log())
	}
	if hits := inMemory(t, n.cmd.Process.Pid, token); hits == 0 {
		t.Error("the token is not in the plugin's memory: that it is not in swap says nothing")
	}

	p.press(t, pager, unprotected)
	close(w.release)
	if err := <-done; err != nil {
		t.Errorf("NodePublishVolume(slow) = %v, want nil: reclaim broke it\n%s", err, n.log())
	}
	p.verdict(t)
}

// inMemory counts how often a canary is in the memory of a process.
func inMemory(t *testing.T, pid int, canary string) (hits int) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(filepath.Join(dir, "mem"))
	if err != nil {
		hardeningtest.Missing(t, "needs CAP_SYS_PTRACE: "+err.Error())
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var may string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &may); err != nil || !strings.HasPrefix(may, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, from) // some ranges cannot be read
		hits += bytes.Count(b[:n], []byte(canary))
		clear(b)
	}
	return hits
}
