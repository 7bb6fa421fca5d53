//go:build integration

package admissionpolicy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor/refusals"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const noPersistentVolumes = "portcullis-no-persistent-volumes"

// podRow is a pod and the policies that object to it.
type podRow struct {
	pod  *corev1.Pod
	want []string
}

func podRows() map[string]podRow {
	none, hostPaths, priv := []string(nil), []string{refusals.HostPaths}, []string{refusals.Privileged}
	readOnly := []string{refusals.VolumesReadOnly}
	return map[string]podRow{
		"an ordinary pod":            {pod("payments"), none},
		"no volume at all":           {pod("payments", noVolume), none},
		"readOnly is missing":        {pod("payments", writable), readOnly},
		"readOnly: false":            {pod("payments", readOnlyFalse), readOnly},
		"readOnly in a second one":   {pod("payments", second), readOnly},
		"writable, of another":       {pod("payments", writable, otherDriver), none},
		"writable, exempt namespace": {pod("agents", writable), readOnly},

		"privileged":                         {pod("payments", privileged), priv},
		"privileged init container":          {pod("payments", privilegedInit), priv},
		"hostPID":                            {pod("payments", hostPID), priv},
		"privileged, other driver":           {pod("payments", privileged, hostPID, otherDriver), none},
		"privileged, no volume":              {pod("payments", privileged, privilegedInit, hostPID, noVolume), none},
		"privileged: false":                  {pod("payments", privileged, func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext.Privileged = new(false) }), none},
		"privileged, exempt":                 {pod("agents", privileged, hostPID), none},
		"privileged, namespace of the chart": {pod(release, privileged), priv},

		"pods of kubelet":         {pod("payments", noVolume, hostPath("/var/lib/kubelet/pods")), hostPaths},
		"harmless path":           {pod("payments", noVolume, hostPath("/var/log/app", "/opt")), none},
		"second of two":           {pod("payments", noVolume, hostPath("/opt", "/proc/1/root")), hostPaths},
		"root of the node":        {pod("payments", hostPath("/")), hostPaths},
		"path, exempt":            {pod("agents", hostPath("/")), none},
		"path, the plugin":        {pod(release, noVolume, hostPath("/var/lib/kubelet/pods"), as(account)), none},
		"path, chart's namespace": {pod(release, noVolume, hostPath("/var/lib/kubelet/pods")), hostPaths},
		"path, same account name": {pod("payments", noVolume, hostPath("/proc"), as(account)), hostPaths},

		"everything, with an owner": {
			pod("payments", writable, privileged, hostPath("/"), owned),
			[]string{refusals.HostPaths, refusals.Privileged, refusals.VolumesReadOnly},
		},
		"everything": {
			pod("payments", writable, privileged, hostPath("/")),
			[]string{refusals.HostPaths, refusals.Privileged, refusals.VolumesReadOnly},
		},
	}
}

func owned(p *corev1.Pod) {
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api", UID: "1", Controller: new(true)}}
}

func second(p *corev1.Pod) {
	v := p.Spec.Volumes[0].DeepCopy()
	v.Name, v.CSI.ReadOnly = "more", nil
	p.Spec.Volumes = append(p.Spec.Volumes, *v)
}

// split are the policies by what they do in a mode.
func split(want []string, mode string) outcome {
	var o outcome
	for _, policy := range want {
		switch {
		case policy == refusals.VolumesReadOnly || policy == noPersistentVolumes || mode == "deny":
			o.denied = append(o.denied, policy)
		case mode == "warn":
			o.warned = append(o.warned, policy)
		}
	}
	return o
}

func modes(mode string) string {
	return "admissionPolicies.privileged=" + mode + ",admissionPolicies.ephemeralContainers=" + mode + ",admissionPolicies.hostPaths=" + mode +
		",admissionPolicies.exemptNamespaces={agents}"
}

func TestPods(t *testing.T) {
	w := newWorld(t, clustertest.Options{}, modes("warn"))
	for _, namespace := range []string{release, "payments"} {
		w.CreateServiceAccount(t, namespace, account)
	}
	for _, mode := range []string{"warn", "deny"} {
		w.install(t, modes(mode))
		for _, change := range []func(*corev1.Pod){privileged, hostPath("/"), writable} {
			p := pod("payments", change)
			w.settles(t, split([]string{refusals.Of(p, settings())[0].Policy}, mode), w.dry(t, p))
		}
		w.settles(t, split([]string{noPersistentVolumes}, mode), w.dryVolume(t, corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "x"}}))
		for name, row := range podRows() {
			t.Run(mode+"/"+name, func(t *testing.T) {
				got := w.try(w.dry(t, row.pod))
				if want := split(row.want, mode); !got.matches(want) {
					t.Errorf("outcome = %v, want %v", got, want)
				}
				tells(t, got)
				var twin []string
				for _, r := range refusals.Of(row.pod, settings()) {
					twin = append(twin, r.Policy)
				}
				slices.Sort(twin)
				if diff := cmp.Diff(row.want, slices.Compact(twin)); diff != "" {
					t.Errorf("refusals.Of() (-want +got):\n%s", diff)
				}
			})
		}
		t.Run(mode+"/persistent volumes", func(t *testing.T) { testPersistentVolumes(t, w, mode) })
		t.Run(mode+"/templates", func(t *testing.T) { testTemplates(t, w) })
		t.Run(mode+"/ephemeral containers", func(t *testing.T) { testEphemeralContainers(t, w, mode) })
	}
}

func (w *world) dryVolume(t *testing.T, source corev1.PersistentVolumeSource) func() error {
	return func() error {
		// An owner, which anybody can write, changes nothing.
		owner := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "x", UID: "1", Controller: new(true)}
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", OwnerReferences: []metav1.OwnerReference{owner}}, Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, PersistentVolumeSource: source,
		}}
		if source.Local != nil {
			v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"node1"}}},
			}}}}
		}
		_, err := w.as.CoreV1().PersistentVolumes().Create(t.Context(), v, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
}

func testPersistentVolumes(t *testing.T, w *world, mode string) {
	csi := func(name string) corev1.PersistentVolumeSource {
		return corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: name, VolumeHandle: "x"}}
	}
	ofPath := func(p string) corev1.PersistentVolumeSource {
		return corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: p}}
	}
	local := func(p string) corev1.PersistentVolumeSource {
		return corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: p}}
	}
	for name, tt := range map[string]struct {
		source corev1.PersistentVolumeSource
		want   []string
	}{
		"of the driver":     {csi(driver), []string{noPersistentVolumes}},
		"of another driver": {csi("other.csi.example"), nil},
		"host path":         {ofPath("/var/lib/kubelet"), []string{refusals.HostPaths}},
		"local":             {local("/var//lib/portcullis/./audit"), []string{refusals.HostPaths}},
		"local disk":        {local("/mnt/disks/1"), nil},
		"host path, fine":   {ofPath("/opt/local-path-provisioner/pvc-1"), nil},
	} {
		got := w.try(w.dryVolume(t, tt.source))
		if want := split(tt.want, mode); !got.matches(want) {
			t.Errorf("%s: outcome = %v, want %v", name, got, want)
		}
		tells(t, got)
	}
}

// testTemplates has a workload of every kind. Its author is warned, and no more,
// whatever the mode: the pods are what is refused.
func testTemplates(t *testing.T, w *world) {
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	kinds := map[string]func(meta metav1.ObjectMeta, template corev1.PodTemplateSpec, s *metav1.LabelSelector) error{
		"Deployment": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, s *metav1.LabelSelector) error {
			_, err := w.as.AppsV1().Deployments(m.Namespace).Create(t.Context(), &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Template: p, Selector: s}}, dry)
			return err
		},
		"StatefulSet": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, s *metav1.LabelSelector) error {
			_, err := w.as.AppsV1().StatefulSets(m.Namespace).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Template: p, Selector: s}}, dry)
			return err
		},
		"DaemonSet": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, s *metav1.LabelSelector) error {
			_, err := w.as.AppsV1().DaemonSets(m.Namespace).Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: m, Spec: appsv1.DaemonSetSpec{Template: p, Selector: s}}, dry)
			return err
		},
		"ReplicaSet": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, s *metav1.LabelSelector) error {
			_, err := w.as.AppsV1().ReplicaSets(m.Namespace).Create(t.Context(), &appsv1.ReplicaSet{ObjectMeta: m, Spec: appsv1.ReplicaSetSpec{Template: p, Selector: s}}, dry)
			return err
		},
		"ReplicationController": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, s *metav1.LabelSelector) error {
			_, err := w.as.CoreV1().ReplicationControllers(m.Namespace).Create(t.Context(), &corev1.ReplicationController{ObjectMeta: m, Spec: corev1.ReplicationControllerSpec{Template: &p, Selector: s.MatchLabels}}, dry)
			return err
		},
		"Job": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, _ *metav1.LabelSelector) error {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			_, err := w.as.BatchV1().Jobs(m.Namespace).Create(t.Context(), &batchv1.Job{ObjectMeta: m, Spec: batchv1.JobSpec{Template: p}}, dry)
			return err
		},
		"CronJob": func(m metav1.ObjectMeta, p corev1.PodTemplateSpec, _ *metav1.LabelSelector) error {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			_, err := w.as.BatchV1().CronJobs(m.Namespace).Create(t.Context(), &batchv1.CronJob{ObjectMeta: m, Spec: batchv1.CronJobSpec{
				Schedule: "@daily", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: p}},
			}}, dry)
			return err
		},
	}
	labels := map[string]string{"app": "api"}
	for kind, create := range kinds {
		for _, tt := range []struct {
			name string
			meta metav1.ObjectMeta
			pod  *corev1.Pod
			want []string
		}{
			{"ordinary", metav1.ObjectMeta{Namespace: "payments", Name: "api"}, pod("payments"), nil},
			{"everything", metav1.ObjectMeta{Namespace: "payments", Name: "api"}, pod("payments", writable, privileged, hostPath("/")), []string{refusals.HostPaths, refusals.Privileged, refusals.VolumesReadOnly}},
			{"the plugin", metav1.ObjectMeta{Namespace: release, Name: "plugin"}, pod(release, noVolume, hostPath("/proc"), as(account)), nil},
			{"made by a controller", metav1.ObjectMeta{Namespace: "payments", Name: "api", OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "Deployment", Name: "api", UID: "1", Controller: new(true)},
			}}, pod("payments", writable), nil},
		} {
			template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: tt.pod.Spec}
			got := w.try(func() error { return create(tt.meta, template, &metav1.LabelSelector{MatchLabels: labels}) })
			if want := (outcome{warned: tt.want}); !got.matches(want) {
				t.Errorf("%s %s: outcome = %v, want %v", kind, tt.name, got, want)
			}
			tells(t, got)
		}
	}
}

func testEphemeralContainers(t *testing.T, w *world, mode string) {
	both := []string{refusals.EphemeralContainers, refusals.Privileged}
	for _, tt := range []struct {
		name       string
		pod        *corev1.Pod
		privileged bool
		want       []string
	}{
		{"without the volume", pod("payments", noVolume), true, nil},
		{"with the volume, not mounted", pod("payments"), false, both[:1]},
		{"privileged", pod("payments"), true, both},
		{"exempt namespace", pod("agents"), true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.pod.Name = "debugged"
			made := w.CreatePod(t, tt.pod)
			defer w.DeletePod(t, made)
			add := func(name string) outcome {
				return w.try(func() error {
					live, err := w.as.CoreV1().Pods(made.Namespace).Get(t.Context(), made.Name, metav1.GetOptions{})
					if err != nil {
						return err
					}
					live.Spec.EphemeralContainers = append(live.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
						Name: name, Image: "registry.example/debug:1", SecurityContext: &corev1.SecurityContext{Privileged: &tt.privileged},
					}})
					made, err := w.as.CoreV1().Pods(made.Namespace).UpdateEphemeralContainers(t.Context(), made.Name, live, metav1.UpdateOptions{})
					if err != nil {
						return err
					}
					var twin []string
					for _, r := range refusals.Of(made, settings()) {
						twin = append(twin, r.Policy)
					}
					slices.Sort(twin)
					if diff := cmp.Diff(tt.want, slices.Compact(twin)); diff != "" {
						t.Errorf("refusals.Of() (-want +got):\n%s", diff)
					}
					return nil
				})
			}
			got := add("debug-1")
			if want := split(tt.want, mode); !got.matches(want) {
				t.Errorf("outcome = %v, want %v", got, want)
			}
			tells(t, got)
			if text := strings.Join(got.texts, "\n"); len(tt.want) > 0 && !strings.Contains(text, "debug-1") {
				t.Errorf("texts = %q, want the container's name", text)
			}
			// What a pod has is not judged again with what is added.
			if text := strings.Join(add("debug-2").texts, "\n"); mode == "warn" && strings.Contains(text, "debug-1") {
				t.Errorf("texts = %q, want nothing of the container that was there", text)
			}
			// And it does not keep the pod from being changed.
			labelled := w.try(func() error {
				_, err := w.as.CoreV1().Pods(made.Namespace).Patch(t.Context(), made.Name, "application/merge-patch+json", []byte(`{"metadata":{"labels":{"seen":"yes"}}}`), metav1.PatchOptions{})
				return err
			})
			if !labelled.matches(outcome{}) {
				t.Errorf("outcome of a label = %v, want none", labelled)
			}
		})
	}
}
