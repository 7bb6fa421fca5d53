package apiserver_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// fill gives every field a value, of those that can be absent only some.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if depth > 0 && r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth-1)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[metav1.Time]() {
			v.Set(reflect.ValueOf(metav1.NewTime(time.Unix(r.Int64N(1<<31), 0))))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i), depth)
			}
		}
	case reflect.Slice:
		for range r.IntN(3) {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(r, e, depth-1)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			key, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(r, key, depth-1)
			fill(r, e, depth-1)
			v.SetMapIndex(key, e)
		}
	case reflect.String:
		v.SetString([]string{"", "a", "secrets", "CAP_SYS_ADMIN", "net_raw", "objects", "x/y"}[r.IntN(7)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64N(100))
	case reflect.Uint8:
		v.SetUint(r.Uint64N(100))
	case reflect.Float64:
		v.SetFloat(1)
	default:
		panic("no value for " + v.Kind().String())
	}
}

// randomPod is any pod with a volume of ours, most of the time.
func randomPod(seed uint64) *corev1.Pod {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &corev1.Pod{}
	fill(r, reflect.ValueOf(p).Elem(), 7)
	p.Name, p.Namespace, p.UID, p.ResourceVersion = "api-0", "payments", podUID, "5"
	p.Spec.ServiceAccountName = "api"
	if r.IntN(10) > 0 {
		ours := pod().Spec.Volumes[0]
		ours.CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "a"}
		p.Spec.Volumes = append(p.Spec.Volumes, ours)
	}
	p.Annotations = map[string]string{"conjur.org/secrets": "- a: b", corev1.LastAppliedConfigAnnotation: canary}
	return p
}

func facts(t testing.TB, p *corev1.Pod) kube.Facts {
	t.Helper()
	f := kube.Facts{
		Phase: policies.PhaseMount, Now: time.Unix(1, 0), Cluster: "prod-eu1", Node: "node-1", DriverName: driverName,
		Pod: p, Namespace: namespace(), ServiceAccount: account(), Class: class(), VolumeName: "secrets",
	}
	if p.Spec.SecurityContext != nil {
		f.VolumeMountGroup = p.Spec.SecurityContext.FSGroup
	}
	return f
}

// What is dropped is read by no decision: the input of a whole pod and that of
// what is kept are the same, and so is every refusal.
func TestStrippedPodDecidesAlike(t *testing.T) {
	accepted := 0
	for seed := range uint64(2000) {
		whole := randomPod(seed)
		want, _, wantErr := kube.BuildInput(facts(t, whole.DeepCopy()))
		kept, err := apiserver.Strip(whole.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		stripped, ok := kept.(*corev1.Pod)
		if !ok {
			t.Fatalf("Strip() = %T, want a pod", kept)
		}
		got, _, gotErr := kube.BuildInput(facts(t, stripped))
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
			t.Fatalf("input of pod %d: %v and %v, differs (-whole +stripped):\n%s", seed, wantErr, gotErr, diff)
		}
		if wantErr == nil {
			accepted++
		}
	}
	if accepted < 200 {
		t.Errorf("%d of 2000 pods gave an input, want at least 200: the rest proves little", accepted)
	}
}

// What identity and audit read besides.
func TestStrippedPodKeepsItsIdentity(t *testing.T) {
	whole := randomPod(7)
	whole.Spec.NodeName, whole.Status.Phase = "node-1", corev1.PodFailed
	now := metav1.Now()
	whole.DeletionTimestamp = &now
	kept, err := apiserver.Strip(whole.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	got, ok := kept.(*corev1.Pod)
	if !ok {
		t.Fatalf("Strip() = %T, want a pod", kept)
	}
	if got.Spec.NodeName != "node-1" || got.Status.Phase != corev1.PodFailed || got.ResourceVersion != "5" || got.DeletionTimestamp == nil ||
		got.UID != podUID || len(got.Spec.Volumes) != len(whole.Spec.Volumes) {
		t.Errorf("Strip() = %+v, want node, phase, version and UID", got)
	}
	if diff := cmp.Diff(whole.OwnerReferences, got.OwnerReferences); diff != "" {
		t.Errorf("owners differ (-want +got):\n%s", diff)
	}
	if got.ManagedFields != nil || got.Finalizers != nil || strings.Contains(fmt.Sprintf("%+v", got), canary) {
		t.Errorf("Strip() = %+v, want neither managed fields nor kubectl's copy", got)
	}
}

func TestStripPassesWhatItDoesNotKnow(t *testing.T) {
	missed := cache.DeletedFinalStateUnknown{Key: "payments/api-0", Obj: pod()}
	if got, err := apiserver.Strip(missed); err != nil || !cmp.Equal(got, any(missed)) {
		t.Errorf("Strip(note of a deletion) = %v, %v, want the same", got, err)
	}
}

// typical is a pod as clusters have them: about 12 kB of JSON.
func typical(i int) *corev1.Pod {
	p := pod()
	p.Name, p.UID = fmt.Sprintf("api-%d", i), p.UID[:30]
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api-5d9c7b9c4f", UID: otherUID, Controller: new(true)}}
	for k := range 5 {
		p.Labels[fmt.Sprintf("app.kubernetes.io/label-%d", k)] = "some-value"
		p.Annotations[fmt.Sprintf("example.com/annotation-%d", k)] = strings.Repeat("x", 60)
	}
	p.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{"x":"` + strings.Repeat("f:metadata ", 300) + `"}`)
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
	}}})
	c := &p.Spec.Containers[0]
	for k := range 20 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", k), Value: strings.Repeat("v", 40)})
	}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz"}}}
	p.Spec.Containers = append(p.Spec.Containers, *c, *c)
	p.Spec.Containers[1].Name, p.Spec.Containers[2].Name = "proxy", "log"
	for range 3 {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "main", ImageID: strings.Repeat("d", 100)})
	}
	for range 5 {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "Ready", Status: "True"})
	}
	return p
}

// BenchmarkPodsInMemory measures what one pod of this node costs.
func BenchmarkPodsInMemory(b *testing.B) {
	const pods = 1000
	for _, mode := range []string{"whole", "stripped"} {
		b.Run(mode, func(b *testing.B) {
			texts := make([][]byte, pods)
			for i := range texts {
				text, err := json.Marshal(typical(i))
				if err != nil {
					b.Fatal(err)
				}
				texts[i] = text
			}
			b.ReportMetric(float64(len(texts[0])), "json-B/pod")
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				kept := make([]any, pods)
				for i, text := range texts {
					p := &corev1.Pod{}
					if err := json.Unmarshal(text, p); err != nil {
						b.Fatal(err)
					}
					kept[i] = p
					if mode == "stripped" {
						kept[i], _ = apiserver.Strip(p)
					}
				}
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/pods, "heap-B/pod")
				runtime.KeepAlive(kept)
			}
		})
	}
}

// What authors of pods write must not fill the memory of the plugin: a large pod
// is not kept, and is what it is all the same.
func TestLargePodsAreReadLive(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Pod, string)
		size   int
		live   int
	}{
		"annotation":       {func(p *corev1.Pod, text string) { p.Annotations["x"] = text }, 32 << 10, 1},
		"volume attribute": {func(p *corev1.Pod, text string) { p.Spec.Volumes[0].CSI.VolumeAttributes["x"] = text }, 32 << 10, 1},
		"name of a host path": {func(p *corev1.Pod, text string) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: text}}})
		}, 32 << 10, 1},
		"image":            {func(p *corev1.Pod, text string) { p.Spec.Containers[0].Image = text }, 32 << 10, 1},
		"not that large":   {func(p *corev1.Pod, text string) { p.Annotations["x"] = text }, 30 << 10, 0},
		"what is not kept": {func(p *corev1.Pod, text string) { p.Spec.Containers[0].Args = []string{text} }, 1 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			large := pod()
			test.change(large, strings.Repeat("x", test.size))
			f.api.put(podPath, large)
			want, err := f.Pod(t.Context(), "payments", "api-0", podUID) // the cache is empty
			if err != nil {
				t.Fatal(err)
			}
			f.run(t)
			before := f.api.count(podPath)
			got, err := f.Pod(t.Context(), "payments", "api-0", podUID)
			if err != nil {
				t.Fatal(err)
			}
			if live := f.api.count(podPath) - before; live != test.live {
				t.Errorf("Pod() read %d times live, want %d", live, test.live)
			}
			got.TypeMeta, want.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Pod() differs from what is read live (-live +got):\n%s", diff)
			}
			// Nobody's claim is that of the pod whose UID is not kept.
			if got, err := f.Pod(t.Context(), "payments", "api-0", ""); err != nil || got.UID != podUID {
				t.Errorf("Pod(claimed \"\") = %v, %v, want the pod as the API server has it", got, err)
			}
		})
	}
}
