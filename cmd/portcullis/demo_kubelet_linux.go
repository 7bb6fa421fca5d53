package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// readyTimeout is how long the plugin may take from start to first answer.
const readyTimeout = 20 * time.Second

// kubelet plays kubelet's part: it makes the directories and the CSI calls
// that kubelet makes, from the same pod objects.
type kubelet struct {
	conn *grpc.ClientConn
	node csi.NodeClient
	pods *manifests.Directory
	root string
}

// dialKubelet connects and registers the plugin as kubelet does.
func dialKubelet(ctx context.Context, s *stage) (*kubelet, error) {
	pods, err := manifests.Open(s.path("manifests"))
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("unix://"+s.path("csi/csi.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	k := &kubelet{conn: conn, node: csi.NewNodeClient(conn), pods: pods, root: s.path("kubelet")}
	if err := k.register(ctx, s.plugin); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func (k *kubelet) register(ctx context.Context, plugin *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := k.node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		if err == nil {
			return nil
		}
		if died := plugin.died(); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the plugin: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (k *kubelet) close() error {
	return errors.Join(k.conn.Close(), k.pods.Close())
}

const volumeName = "secrets"

func (k *kubelet) target(pod *corev1.Pod) string {
	return filepath.Join(k.root, "pods", string(pod.UID), "volumes", "kubernetes.io~csi", volumeName, "mount")
}

// publish makes the call of a pod's start, and of every republish after it.
func (k *kubelet) publish(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod, err := k.pods.Pod(ctx, namespace, name, "")
	if err != nil {
		return nil, err
	}
	target := k.target(pod)
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(target), "vol_data.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	mount := &csi.VolumeCapability_MountVolume{}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		mount.VolumeMountGroup = strconv.FormatInt(*sc.FSGroup, 10)
	}
	_, err = k.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId:      "csi-" + string(pod.UID),
		TargetPath:    target,
		Readonly:      true,
		VolumeContext: volumeContext(pod),
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: mount},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	})
	return pod, err
}

// volumeContext is what kubelet sends with podInfoOnMount: the author's
// attributes and its own, which win.
func volumeContext(pod *corev1.Pod) map[string]string {
	attributes := map[string]string{}
	for _, v := range pod.Spec.Volumes {
		if v.Name == volumeName && v.CSI != nil {
			maps.Copy(attributes, v.CSI.VolumeAttributes)
		}
	}
	maps.Copy(attributes, map[string]string{
		"csi.storage.k8s.io/pod.name":            pod.Name,
		"csi.storage.k8s.io/pod.namespace":       pod.Namespace,
		"csi.storage.k8s.io/pod.uid":             string(pod.UID),
		"csi.storage.k8s.io/serviceAccount.name": pod.Spec.ServiceAccountName,
		"csi.storage.k8s.io/ephemeral":           "true",
	})
	return attributes
}

// unpublish makes the call of a pod's end.
func (k *kubelet) unpublish(ctx context.Context, pod *corev1.Pod) error {
	_, err := k.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-" + string(pod.UID), TargetPath: k.target(pod)})
	return err
}
