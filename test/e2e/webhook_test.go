//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	webhookProcess = "portcullis-webh" // as the kernel cuts it off
	webhookUser    = "65532"
	webhookName    = "portcullis-webhook" // of the StatefulSet, the Service and the account
	podsHook       = "pods.admission.portcullis.dev"
	// logDir has a directory on the node for the log of each replica. A node has a
	// file system of its own at /var.
	logDir = "/var/lib/webhook-log"
)

// withWebhook are the settings of an installation with the admission webhook: two
// replicas, a volume for the log of each, its own certificates, and the floor of
// policy.
func withWebhook() []string {
	return []string{"--set", "webhook.enabled=true", "--set", "webhook.persistence.storageClass=webhook-log", "--set", "policy.floor.enabled=true"}
}

// Who applies a pod that policy denies is told at once, in the words of the rule;
// one that it allows runs; what was decided is in the webhook's log and in the API
// server's, and outlives the replicas; their certificate is replaced under load; and
// while none of them answers, nobody but who makes pods with secrets notices.
func TestWebhookByTheChart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "webhook")
	t.Cleanup(w.explainWebhook)
	if err := w.lab.LoadImage(t.Context(), filepath.Join(made.repository, "bin/images/portcullis-webhook.tar")); err != nil {
		t.Fatal(err)
	}
	w.logVolumes()
	w.installAll(withWebhook()...)
	w.replicasAreUnprivileged()
	first := w.firstReviews()
	w.floorFollows()

	t.Run("answers", func(t *testing.T) {
		for name, test := range map[string]func(*world){
			"pods": (*world).podsAreReviewed, "templates": (*world).templatesAreWarnedOf, "classes": (*world).classesAreReviewed,
			"debug": (*world).debugIsRefused, "images": (*world).imagesAreReviewed, "certificates": (*world).certificatesRotate,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				begin := time.Now()
				test(w.seenBy(t))
				t.Logf("%s took %v", name, time.Since(begin).Round(100*time.Millisecond))
			})
		}
	})
	t.Run("away", func(t *testing.T) { w.seenBy(t).goesAway() })
	w.logsAreKept(first)
}

// seenBy is the same cluster for a test within the test.
func (w *world) seenBy(t *testing.T) *world {
	t.Helper()
	view := *w
	view.T = t
	return &view
}

func (w *world) explainWebhook() {
	if w.Failed() {
		out, err := w.run("", "kubectl", "logs", "-n", system, "-l", "app=portcullis-webhook", "--tail=80", "--prefix")
		w.Logf("the webhook says: %v\n%s", err, out)
	}
}

// logVolumes makes what an administrator makes who has no provisioner: local
// volumes, of which a replica keeps the one that it got.
func (w *world) logVolumes() {
	w.Helper()
	objects := "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: webhook-log}\nprovisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n"
	for i := range 2 {
		dir := filepath.Join(logDir, strconv.Itoa(i))
		if err := os.MkdirAll(w.lab.Path(dir), 0o755); err != nil {
			w.Fatal(err)
		}
		objects += fmt.Sprintf(`---
apiVersion: v1
kind: PersistentVolume
metadata: {name: webhook-log-%d}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOncePod]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: webhook-log
  local: {path: %s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]}}
`, i, dir, node)
	}
	w.apply(objects)
}

// replicasAreUnprivileged fails the test unless two replicas run as a user without
// rights, and write to nothing but their own volumes.
func (w *world) replicasAreUnprivileged() {
	w.Helper()
	if got := w.kubectl("get", "pvc", "-n", system, "-l", "app=portcullis-webhook", "-o", "jsonpath={.items[*].status.phase} {.items[*].spec.accessModes[*]}"); got != "Bound Bound ReadWriteOncePod ReadWriteOncePod" {
		w.Errorf("the claims of the replicas are %q", got)
	}
	pids := w.processes(func(comm string) bool { return comm == webhookProcess })
	if len(pids) != 2 {
		w.Fatalf("the webhook runs as the processes %v, want two", pids)
	}
	volumes := map[string]bool{}
	for _, pid := range pids {
		proc := fmt.Sprintf("/proc/%d", pid)
		status := w.status(proc + "/status")
		none, user := "0000000000000000", strings.Join([]string{webhookUser, webhookUser, webhookUser, webhookUser}, "\t")
		for field, want := range map[string]string{
			"Uid": user, "Gid": user, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if status[field] != want {
				w.Errorf("%s of a replica is %q, want %q", field, status[field], want)
			}
		}
		table, err := os.ReadFile(proc + "/mountinfo")
		if err != nil {
			w.Fatal(err)
		}
		for line := range bytes.Lines(table) {
			switch f := strings.Fields(string(line)); f[4] {
			case "/":
				if !strings.HasPrefix(f[5], "ro,") {
					w.Errorf("a replica can write to its root: %s", line)
				}
			case stateDir:
				volumes[f[3]] = true
			}
		}
	}
	for i := range 2 {
		if dir := filepath.Join(logDir, strconv.Itoa(i)); !volumes[strings.TrimPrefix(dir, "/var")] {
			w.Errorf("no replica has its state in %s: %v", dir, volumes)
		}
	}
}

// firstReviews is of the first bundle: one pod is refused, and one runs. It returns
// the id of the refusal.
func (w *world) firstReviews() (decision string) {
	w.Helper()
	w.ungranted("refused")
	w.namespace("granted")
	out := w.refused(manifest(pod("refused", "app")))
	decision = w.told(out, podsHook, "PR-001", `ask the owner of local://node/app/password[^;]* for a grant to service account app in namespace refused`)
	if out := w.kubectl("get", "pods", "-n", "refused", "-o", "name"); out != "" {
		w.Errorf("the refused pod is there: %s", out)
	}
	p := w.started(pod("granted", "app"))
	w.reads(p, "/secrets/password", "first")
	return decision
}

// floorFollows publishes another bundle, and waits until the cluster's floor is
// its serial.
func (w *world) floorFollows() {
	w.Helper()
	before := w.floor()
	if before == 0 {
		w.Error("the floor is not raised by the first bundle")
	}
	w.publishPolicy(w.policy(ofReviews))
	w.eventually(2*time.Minute, "the floor is raised", func() error {
		if now := w.floor(); now <= before {
			return fmt.Errorf("it is %d, and was %d", now, before)
		}
		return nil
	})
	// Under the new bundle the same pod is admitted, and mounts.
	w.eventually(2*time.Minute, "the granted pod is admitted", func() error {
		out, err := w.said(manifest(pod("refused", "app")), "apply", "-f", "-")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	w.kubectl("wait", "-n", "refused", "pod/app", "--for=condition=Ready", "--timeout=120s")
}

// ofReviews is the policy of what follows: one namespace more has a grant, images of
// one registry are denied, and paths of the node are warned of.
func ofReviews(w *world, dir string) {
	w.writeFile(filepath.Join(dir, "portcullis/grants/late.yaml"), strings.ReplaceAll(grantOf, "NAMESPACE", "refused"))
	w.writeFile(filepath.Join(dir, "portcullis/checks/registry/registry.rego"), registryCheck)
	w.replaceIn(filepath.Join(dir, "portcullis/config/data.yaml"), "unlisted: deny", "unlisted: warn")
}

const (
	foreignImage  = "lab.invalid/busybox:1" // which the node has
	foreignRemedy = "name an image of the cluster's own registry"
	registryCheck = `# METADATA
# title: Registry
# description: Secrets go to no image of a registry that nobody vouches for.
# schemas:
#   - input: schema.input
# labels:
#   owner: e2e
package portcullis.checks.registry

import data.portcullis.lib

# METADATA
# title: Image of another registry
deny contains finding if {
	some container in lib.mounting_containers
	startswith(container.image, "lab.invalid/")
	finding := {
		"id": "PR-300",
		"severity": "high",
		"message": sprintf("container %s runs an image of another registry", [lib.quoted(container.name)]),
		"remediation": "` + foreignRemedy + `",
	}
}
`
)

// floor is the serial of the cluster's floor, 0 if there is none yet.
func (w *world) floor() int64 {
	w.Helper()
	text := w.kubectl("get", "configmap", "-n", system, "portcullis-policy-floor", "-o", "jsonpath={.data.serial}")
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	return n
}
