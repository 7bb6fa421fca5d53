//go:build integration

package integration_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// TestRepublishThatIsNotDueAsksNobody: kubelet calls once a minute for every
// volume of the node, and the API server must not notice.
func TestRepublishThatIsNotDueAsksNobody(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1h")
	proxy := w.throughProxy()
	p := w.cluster.CreatePod(t, pod("quiet"))
	req := w.withToken(w.request(p, volume), p)
	w.mounts(req, "db/password", "one")
	// The status object is still to come, and the caches of the plugin's start.
	last, since := int64(-1), time.Now()
	plugintest.Eventually(t, "the plugin is done with the API server", func() error {
		if now := proxy.asked.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return errNotYet
		}
		return nil
	})
	calls := len(w.provider.Calls())
	for range 20 {
		w.mounts(req, "db/password", "one")
	}
	if got := proxy.asked.Load() - last; got != 0 {
		t.Errorf("20 republishes that are not due made %d requests, want 0", got)
	}
	if got := len(w.provider.Calls()) - calls; got != 0 {
		t.Errorf("20 republishes that are not due made %d provider calls, want 0", got)
	}
}

// TestDecisionsOfRotationSayWhatTheySaw: as those of a mount do.
func TestDecisionsOfRotationSayWhatTheySaw(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	p := w.cluster.CreatePod(t, pod("turning"))
	req := w.request(p, volume)
	w.mounts(req, "db/password", "one")
	w.class(class, "db/password", "db/user") // another resource version, and another decision
	var mounted, rotated *audit.Seen
	plugintest.Eventually(t, "a decision of a rotation is recorded", func() error {
		if err := w.plugin.Publish(req); err != nil {
			return err
		}
		for _, e := range w.events(p) {
			if e.Policy == nil || e.Seen == nil {
				continue
			}
			switch e.Policy.Phase {
			case "mount":
				mounted = e.Seen
			case "rotate":
				rotated = e.Seen
			}
		}
		if rotated == nil || mounted == nil || rotated.Class == mounted.Class {
			return errNotYet
		}
		return nil
	})
	if rotated.Pod == "" || rotated.Namespace != mounted.Namespace || rotated.ServiceAccount != mounted.ServiceAccount {
		t.Errorf("the rotation saw %+v, want the objects of the mount %+v with another class", rotated, mounted)
	}
}

// ready asks for readiness, and how long the answer took.
func (w *world) ready() (text string, took time.Duration) {
	w.t.Helper()
	var address string
	for _, a := range w.args {
		if value, ok := strings.CutPrefix(a, "--health-addr="); ok {
			address = value
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body), time.Since(began)
}

// readies waits until readiness says this, which it must say at once.
func (w *world) readies(want string) {
	w.t.Helper()
	plugintest.Eventually(w.t, "readiness says "+want, func() error {
		text, took := w.ready()
		if took > 4*time.Second {
			w.t.Errorf("/readyz took %v, want it soon", took)
		}
		if !strings.Contains(text, want) {
			return fmt.Errorf("it says %s", text)
		}
		return nil
	})
}

// TestReadinessTellsOfTheCSIDriver: what is wrong, and what to do about it.
func TestReadinessTellsOfTheCSIDriver(t *testing.T) {
	w := newWorld(t)
	w.readies("[+] CSIDriver object\n[+] CSIDriver object's other fields\n[+] API server\n[+] API server caches\n")
	w.cluster.Apply(t, strings.ReplaceAll(csiDriver(t), "podInfoOnMount: true", "podInfoOnMount: false"))
	w.readies("[-] CSIDriver object: spec.podInfoOnMount of the CSIDriver object is not true: authors of pods could say who they are; hint: set podInfoOnMount: true")
	if err := w.cluster.Client.StorageV1().CSIDrivers().Delete(t.Context(), driverName, deleteNow()); err != nil {
		t.Fatal(err)
	}
	w.readies("[-] CSIDriver object: the CSIDriver object is not in the cluster; hint: apply the chart's CSIDriver object")
	w.cluster.StopAPIServer()
	w.readies("[-] CSIDriver object: read CSIDriver from the API server: unreachable; hint: check address, network and certificate authority")
	w.cluster.Restart(t)
	w.cluster.Apply(t, csiDriver(t))
	w.readies("[+] CSIDriver object\n")
}
