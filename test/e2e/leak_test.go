//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// What a pod reads is in no file of the node but its own volume: not in a log of
// ours, kubelet's or the API server's, nor in etcd, and so in no object or event;
// after a rotation the earlier value is not even there, and after the pod is gone
// neither is.
func TestP5SecretIsNowhereButInTheVolume(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("nowhere")
	values := [2]string{rand.Text() + rand.Text(), rand.Text() + rand.Text()}
	w.writeSecret("app/nowhere", values[0])
	w.apply(class(namespace, "nowhere", "nowhere"))
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "nowhere")}
	p = w.started(p)
	w.reads(p, "/secrets/nowhere", values[0])
	w.writeSecret("app/nowhere", values[1])
	w.becomes(p, "/secrets/nowhere", values[1], time.Minute)
	w.event(p, "were fetched again and have changed", time.Minute)

	atProvider := filepath.Join(secretsDir, "app/nowhere")
	inVolume := "/var/lib/kubelet/pods/" + string(p.UID) + "/volumes/kubernetes.io~csi/secrets/mount/"
	w.eventually(time.Minute, "one generation is in the volume", func() error {
		if out, err := w.sh(p, "", "ls -A /secrets/..data/.. | grep -c '^\\.\\.2'"); err != nil || out != "1" {
			return fmt.Errorf("there are %s, %w", out, err)
		}
		return nil
	})
	found := w.holding(values[:]...)
	if len(found[0]) != 0 {
		t.Errorf("the first value is in %q", found[0])
	}
	if second := found[1]; len(second) != 2 || !strings.HasPrefix(second[0], inVolume) || second[1] != atProvider {
		t.Errorf("the second value is in %q, want it in the volume and at its provider", second)
	}
	w.deleted(p)
	w.leftNothing(p)
	if left := w.holding(values[1])[0]; !slices.Equal(left, []string{atProvider}) {
		t.Errorf("the pod is gone, and its secret is in %q", left)
	}
}

// holding are, for each of some texts, the files of the node and the logs of its
// daemons that hold it.
func (w *world) holding(texts ...string) [][]string {
	w.Helper()
	// The images as they were loaded, what only looks like files, and a second
	// view of what containers wrote.
	skipped := []string{"io.containerd.content.v1.content", "netns", "pinned-namespaces", "rootfs"}
	found := make([][]string, len(texts))
	visit := func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		for i, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				found[i] = append(found[i], strings.TrimPrefix(path, w.lab.Root()))
			}
		}
		return err
	}
	for _, root := range []string{w.lab.Path("/var"), w.lab.Path("/run"), w.lab.Path("/tmp"), filepath.Dir(w.lab.Log(lab.Kubelet))} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err = visit(path, entry, err); errors.Is(err, fs.ErrNotExist) {
				return nil // pods of other tests come and go
			}
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	for i := range found {
		slices.Sort(found[i])
	}
	return found
}
