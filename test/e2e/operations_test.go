//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever installs, upgrades and removes the driver as docs/OPERATIONS.md says,
// word for word, gets what it says.
func TestOperationsAreTrueWordForWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "operations")
	guide := w.follower("docs/OPERATIONS.md", []string{"Install with the chart", "Upgrade", "Uninstall"})
	guide.follow("Install with the chart")
	w.registered()
	if !strings.Contains(guide.printed, "correct horse") {
		t.Errorf("the sample's secret is not printed: %s", guide.printed)
	}
	api, err := w.client.CoreV1().Pods("payments").Get(w.Context(), "api", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	volume, before := w.volumeOf(api), w.plugin().UID
	guide.follow("Upgrade")
	if !strings.Contains(guide.printed, "Rollback was a success") {
		t.Errorf("there was no rollback: %s", guide.printed)
	}
	w.eventually(time.Minute, "the canary's plugin is replaced", func() error {
		if w.plugin().UID == before {
			return fmt.Errorf("it is still %s", before)
		}
		return nil
	})
	if now := w.volumeOf(api); now != volume {
		t.Errorf("the upgrade changed the volume from %s to %s", volume, now)
	}
	w.reads(api, "/secrets/password", "correct horse")

	guide.follow("Uninstall")
	w.eventually(time.Minute, "nothing of the driver is left on the node", func() error {
		if lines := w.mounts("kubernetes.io~csi"); len(lines) > 0 {
			return fmt.Errorf("mounts: %q", lines)
		}
		if entries, err := os.ReadDir(w.lab.Path("/var/lib/kubelet/plugins_registry")); err != nil || len(entries) > 0 {
			return fmt.Errorf("registrations: %v, %w", entries, err)
		}
		return nil
	})
	if _, err := os.Stat(w.lab.Path("/var/lib/portcullis/audit/node.vkey")); err != nil {
		t.Errorf("the log is not kept: %v", err)
	}
}
