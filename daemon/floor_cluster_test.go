//go:build integration

package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// floorObjects are what the chart makes: a ConfigMap without data, and who may do
// what with it.
const floorObjects = `
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: security, name: floor, labels: {app: portcullis}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: security, name: writer}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [floor], verbs: [get, update]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: security, name: reader}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [floor], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: security, name: writer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects: [{kind: ServiceAccount, namespace: security, name: webhook}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: security, name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, namespace: security, name: node}]
`

// floorWorld is a cluster, and a key that signs.
type floorWorld struct {
	*clustertest.Cluster

	t        *testing.T // of all parts, whose files outlive each
	accounts map[string]*rest.Config
	signer   signaturetest.Signer
	key      string
	end      time.Time // of each bundle: one serial is one content wherever it is published
}

// life is that of a bundle that is published now.
func (w *floorWorld) life() time.Duration { return time.Until(w.end) }

func newFloorWorld(t *testing.T) *floorWorld {
	t.Helper()
	c := clustertest.Start(t, clustertest.Options{})
	c.CreateNamespace(t, "security", nil)
	accounts := map[string]*rest.Config{}
	for _, account := range []string{"webhook", "node", "nobody"} {
		c.CreateServiceAccount(t, "security", account)
		accounts[account] = c.As(t, "security", account)
	}
	c.Apply(t, floorObjects)
	signer := signaturetest.NewSigner(t)
	return &floorWorld{c, t, accounts, signer, keyFile(t, signer), time.Now().Add(time.Hour).Truncate(time.Second).Add(time.Second / 2)}
}

// replica is a process with its own state and its own source.
type replica struct {
	process

	file string
}

// begin starts one with a bundle at its source. Only the webhook's raise.
func (w *floorWorld) begin(t *testing.T, account, serial string) replica {
	t.Helper()
	file := filepath.Join(w.t.TempDir(), "bundle.tar.gz")
	publish(t, file, w.signer, serial, w.life())
	return w.again(t, account, replica{process{dir: state(w.t)}, file})
}

// again starts one with what an earlier process left.
func (w *floorWorld) again(t *testing.T, account string, r replica) replica {
	t.Helper()
	r.process = begin(t, r.dir, func(c *daemon.PolicyConfig) {
		c.REST, c.RaiseFloor = rest.CopyConfig(w.accounts[account]), account == "webhook"
	}, "--policy="+r.file, "--policy-key="+w.key, "--policy-floor=security/floor")
	return r
}

// publish puts a serial at the source and has it read.
func (w *floorWorld) publish(t *testing.T, r replica, serial string) error {
	t.Helper()
	publish(t, r.file, w.signer, serial, w.life())
	return r.Reload(t.Context())
}

// serial is what the ConfigMap says, "" where there is none.
func (w *floorWorld) serial(t *testing.T) string {
	t.Helper()
	m, err := w.Client.CoreV1().ConfigMaps("security").Get(t.Context(), "floor", metav1.GetOptions{})
	if err != nil {
		return ""
	}
	if m.Data["serial"] != "" && m.Labels["app"] != "portcullis" {
		t.Errorf("the ConfigMap lost the chart's labels: %v", m.Labels)
	}
	return m.Data["serial"]
}

func (w *floorWorld) wants(t *testing.T, when, serial string) {
	t.Helper()
	if got := w.serial(t); got != serial {
		t.Errorf("%s: the cluster's floor is %q, want %q", when, got, serial)
	}
}

// set writes the ConfigMap as an administrator may, or somebody who is one by now.
func (w *floorWorld) set(t *testing.T, data map[string]any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"data": data})
	if err == nil {
		_, err = w.Client.CoreV1().ConfigMaps("security").Patch(t.Context(), "floor", types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestP10FloorInACluster: of processes with a real API server, with its conflicts and
// refusals. Each part begins where the one before ended.
func TestP10FloorInACluster(t *testing.T) {
	w := newFloorWorld(t)
	t.Run("without rights", w.withoutRights)
	var one, two replica
	t.Run("raised and read", func(t *testing.T) { one, two = w.raisedAndRead(t) })
	t.Run("two replicas at once", func(t *testing.T) { w.atOnce(t, one, two) })
	t.Run("other content", func(t *testing.T) { w.otherContent(t, one, two) })
	t.Run("lowered and damaged", func(t *testing.T) { w.lowered(t, one, two) })
	t.Run("removed", w.removed)
	t.Run("API server down", w.down)
}

// withoutRights: nothing is granted by who cannot ask, and it is said which right is
// missing, once.
func (w *floorWorld) withoutRights(t *testing.T) {
	r := w.begin(t, "nobody", "5")
	defer r.end(t)
	r.says(t, "the API server answers 403; hint: the account needs get on ConfigMap security/floor", "403", "")
	if r.Active() != nil {
		t.Error("a bundle is in force below a floor that nobody could read")
	}
	n := w.begin(t, "node", "5")
	defer n.end(t)
	n.says(t, "has no data yet; hint: the webhook writes it", "no data yet", "")
	w.wants(t, "before the webhook", "")
}

func (w *floorWorld) raisedAndRead(t *testing.T) (one, two replica) {
	one, two = w.begin(t, "webhook", "5"), w.begin(t, "webhook", "5")
	one.says(t, "", "", "")
	two.says(t, "", "", "")
	w.wants(t, "with the first bundle", "5")
	n := w.begin(t, "node", "4")
	n.says(t, "has serial 4, and 5 is the lowest", "serial 4", "")
	if err := w.publish(t, n, "5"); err != nil {
		t.Errorf("Reload(serial 5) of a node = %v, want it in force", err)
	}
	if err := w.publish(t, n, "6"); err != nil {
		t.Errorf("Reload(serial 6) of a node = %v, want it in force", err)
	}
	w.wants(t, "with a higher serial on a node, which does not raise", "5")
	n.end(t)
	return one, two
}

// atOnce: each round both replicas have another serial, and write by the version of the
// object that they have read.
func (w *floorWorld) atOnce(t *testing.T, one, two replica) {
	for serial := 10; serial < 30; serial += 2 {
		var both sync.WaitGroup
		for i, r := range []replica{one, two} {
			publish(t, r.file, w.signer, strconv.Itoa(serial+i), w.life())
			both.Go(func() {
				// A lower serial than the cluster has by then is refused, and no harm.
				if err := r.Reload(t.Context()); err != nil && bundle.ReasonOf(err) != bundle.ReasonSerial {
					t.Errorf("Reload(serial %d) = %v", serial+i, err)
				}
			})
		}
		both.Wait()
		w.wants(t, fmt.Sprint("after round ", serial), strconv.Itoa(serial+1))
	}
}

// otherContent: one serial is one content in the whole cluster.
func (w *floorWorld) otherContent(t *testing.T, one, two replica) {
	if err := w.publish(t, one, "40"); err != nil {
		t.Fatal(err)
	}
	publish(t, two.file, w.signer, "40", w.life()+time.Hour) // another end is other content
	if err := two.Reload(t.Context()); bundle.ReasonOf(err) != bundle.ReasonEquivocation {
		t.Errorf("Reload(serial 40 with other content) = %v, want equivocation", err)
	}
	w.wants(t, "after two contents of one serial", "40")
}

// lowered: what a process has seen stays its floor, and the next raise mends the
// cluster's. One that is damaged is left to people.
func (w *floorWorld) lowered(t *testing.T, one, two replica) {
	w.set(t, map[string]any{"serial": "3", "digest": nil})
	if err := w.publish(t, two, "39"); bundle.ReasonOf(err) != bundle.ReasonSerial {
		t.Errorf("Reload(serial 39) after the floor was lowered from 40 = %v, want it refused", err)
	}
	one.end(t)
	one = w.again(t, "webhook", one)
	one.says(t, "", "", "")
	w.wants(t, "after a restart of the webhook", "40")
	w.set(t, map[string]any{"serial": "forty"})
	if err := w.publish(t, one, "41"); err != nil {
		t.Errorf("Reload(serial 41) with a damaged floor = %v, want it in force: this process has a floor of its own", err)
	}
	one.says(t, "", "", "holds no floor of policy serials; hint: find out who wrote it")
	w.wants(t, "which nobody can compare", "forty")
	w.set(t, map[string]any{"serial": "41", "digest": nil})
	if err := one.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	one.says(t, "", "", "")
	one.end(t)
	two.end(t)
}

// removed: who has seen a serial goes on, who has not waits, and once the chart has made
// the ConfigMap again it is written at the next look.
func (w *floorWorld) removed(t *testing.T) {
	r := w.begin(t, "webhook", "42")
	defer r.end(t)
	w.wants(t, "at first", "42")
	if err := w.Client.CoreV1().ConfigMaps("security").Delete(t.Context(), "floor", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n := w.begin(t, "node", "42")
	defer n.end(t)
	n.says(t, "is not there or has no data yet", "not there", "")
	if err := w.publish(t, r, "43"); err != nil {
		t.Errorf("Reload(serial 43) without a floor = %v, want it in force", err)
	}
	r.says(t, "", "", "answers 403; hint: the webhook's account needs create and update on ConfigMap security/floor")
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "security", Name: "floor", Labels: map[string]string{"app": "portcullis"}}}
	if _, err := w.Client.CoreV1().ConfigMaps("security").Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Reload(t.Context()), w.publish(t, n, "43")); err != nil {
		t.Errorf("Reload() once it is there again = %v, want both content", err)
	}
	r.says(t, "", "", "")
	w.wants(t, "once it is there again", "43")
}

// down: nothing of a floor stops a webhook or a node that has one of its own.
func (w *floorWorld) down(t *testing.T) {
	r, n := w.begin(t, "webhook", "50"), w.begin(t, "node", "50")
	defer r.end(t)
	w.StopAPIServer()
	for _, p := range []replica{r, n} {
		if err := w.publish(t, p, "51"); err != nil {
			t.Errorf("Reload(serial 51) without an API server = %v, want it in force", err)
		}
		if err := w.publish(t, p, "50"); bundle.ReasonOf(err) != bundle.ReasonSerial {
			t.Errorf("Reload(serial 50) without an API server = %v, want it refused", err)
		}
	}
	r.says(t, "", "serial 50", "ask the API server for the policy floor: ")
	n.end(t)
	n = w.again(t, "node", n)
	defer n.end(t)
	if n.Active().Manifest().Serial != 51 {
		t.Errorf("after a restart serial %d is in force, want 51, which was kept", n.Active().Manifest().Serial)
	}
}
