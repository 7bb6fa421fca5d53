package conformance_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// pod is a pod with one secrets volume.
type pod struct {
	name, uid, volume string
	group             string // its fsGroup, "" for none
}

// newPod does what the API server and kubelet do before the first CSI call:
// the pod exists, and so does the directory for its volume.
func (w *world) newPod(volume, group string) pod {
	w.t.Helper()
	p, err := w.placePod(volume, group)
	if err == nil {
		err = w.createPod(p)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// placePod is kubelet's part: whatever a test leaves at the target is unmounted.
func (w *world) placePod(volume, group string) (pod, error) {
	*w.pods++
	p := pod{name: fmt.Sprintf("api-%d", *w.pods), uid: fmt.Sprintf("00000000-0000-4000-8000-%012d", *w.pods), volume: volume, group: group}
	w.t.Cleanup(func() { unmountAll(w.target(p)) })
	return p, os.MkdirAll(filepath.Dir(w.target(p)), 0o750)
}

// createPod is the API server's part.
func (w *world) createPod(p pod) error {
	security := "{}"
	if p.group != "" {
		security = "{fsGroup: " + p.group + "}"
	}
	return os.WriteFile(w.manifest(p), fmt.Appendf(nil, `apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, uid: %s}
spec:
  nodeName: %s
  serviceAccountName: %s
  securityContext: %s
  containers: [{name: main, image: registry.example/main:1}]
  volumes: [{name: %s, csi: {driver: %s, readOnly: true, volumeAttributes: {secretProviderClass: %s}}}]
`, p.name, namespace, p.uid, nodeName, account, security, p.volume, driverName, class), 0o600)
}

func (w *world) deletePod(p pod) error { return os.Remove(w.manifest(p)) }

func (w *world) manifest(p pod) string { return w.path("manifests/" + p.name + ".yaml") }

// target is the target path as kubelet forms it.
func (w *world) target(p pod) string {
	return filepath.Join(w.path("kubelet/pods"), p.uid, "volumes/kubernetes.io~csi", p.volume, "mount")
}

// volumeID is the id that kubelet gives to an inline volume (makeVolumeHandle
// in pkg/volume/csi).
func (p pod) volumeID() string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(p.uid+p.volume)))
}

// attributes are what kubelet sends with podInfoOnMount: the author's
// attributes and its own.
func (p pod) attributes() map[string]string {
	return map[string]string{
		"secretProviderClass":                    class,
		"csi.storage.k8s.io/pod.name":            p.name,
		"csi.storage.k8s.io/pod.namespace":       namespace,
		"csi.storage.k8s.io/pod.uid":             p.uid,
		"csi.storage.k8s.io/serviceAccount.name": account,
		"csi.storage.k8s.io/ephemeral":           "true",
	}
}

const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// tokens are what kubelet sends as secrets with serviceAccountTokenInSecrets.
func tokens() map[string]string {
	return map[string]string{
		tokensKey: `{"vault":{"token":"eyJhbGciOiJub25lIn0.e30.c2ln","expirationTimestamp":"2126-12-31T00:00:00Z"}}`,
	}
}

func capability(group string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: group}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func (w *world) publishRequest(p pod) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: p.volumeID(), TargetPath: w.target(p), VolumeCapability: capability(p.group), Readonly: true,
		Secrets: tokens(), VolumeContext: p.attributes(),
	}
}

func (w *world) publish(p pod) error {
	_, err := w.node.NodePublishVolume(w.t.Context(), w.publishRequest(p))
	return err
}

func (w *world) mustPublish(p pod) {
	w.t.Helper()
	if err := w.publish(p); err != nil {
		w.t.Fatalf("NodePublishVolume(%s) = %v, want nil", p.name, err)
	}
}

func (w *world) unpublish(p pod) error {
	_, err := w.node.NodeUnpublishVolume(w.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: p.volumeID(), TargetPath: w.target(p)})
	return err
}

func (w *world) stats(p pod) (*csi.NodeGetVolumeStatsResponse, error) {
	return w.node.NodeGetVolumeStats(w.t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: p.volumeID(), VolumePath: w.target(p)})
}
