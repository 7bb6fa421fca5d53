package testrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// fromManifests builds the input of one volume as the gates do.
func (f Fixture) fromManifests(dir string, phase policies.Phase, now time.Time) (in policies.Input, err error) {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return policies.Input{}, fmt.Errorf("manifests %q is not a directory beside the fixture", f.Manifests)
	}
	objects, err := manifests.Open(dir)
	if err != nil {
		return policies.Input{}, err
	}
	defer func() { err = errors.Join(err, objects.Close()) }()
	facts, err := f.facts(objects, phase, now)
	if err != nil {
		return policies.Input{}, err
	}
	in, _, err = kube.BuildInput(facts)
	return in, err
}

// facts reads the objects that the volume needs.
func (f Fixture) facts(objects *manifests.Directory, phase policies.Phase, now time.Time) (kube.Facts, error) {
	ctx := context.Background()
	namespace, name, _ := strings.Cut(f.Pod, "/")
	pod, err := objects.Pod(ctx, namespace, name, "")
	if err != nil {
		return kube.Facts{}, err
	}
	facts := kube.Facts{Phase: phase, Now: now, Cluster: "test", Pod: pod, VolumeName: f.Volume}
	if sc := pod.Spec.SecurityContext; sc != nil {
		facts.VolumeMountGroup = sc.FSGroup
	}
	if phase != policies.PhaseAdmission && phase != policies.PhaseCI {
		facts.Node, facts.TokenVerified = "node-1", new(true)
	}
	class, err := classOf(pod, f.Volume)
	if err != nil {
		return kube.Facts{}, err
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	var errs [3]error
	facts.Namespace, errs[0] = objects.Namespace(ctx, namespace)
	facts.ServiceAccount, errs[1] = objects.ServiceAccount(ctx, namespace, account)
	facts.Class, errs[2] = objects.Class(ctx, namespace, class)
	return facts, errors.Join(errs[:]...)
}

// classOf returns the SecretProviderClass that a volume names.
func classOf(pod *corev1.Pod, volume string) (string, error) {
	for _, v := range pod.Spec.Volumes {
		if v.Name == volume && v.CSI != nil {
			return v.CSI.VolumeAttributes["secretProviderClass"], nil
		}
	}
	return "", fmt.Errorf("pod %s/%s has no CSI volume %q", pod.Namespace, pod.Name, volume)
}
