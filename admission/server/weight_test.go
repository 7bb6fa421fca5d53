package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/admission/server"
)

// within is a review of an object that is given as text.
func within(object string) []byte {
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","object":%s}}`, object)
}

// Three bytes of a list can be a thousand in memory: such a review ends before
// anything reads it, however its lists are named and written.
func TestP8ReviewsThatWouldFillTheMemory(t *testing.T) {
	w := start(t, nil)
	for name, object := range map[string]string{
		"containers":           `{"spec":{"containers":[` + strings.Repeat("{},", 8000) + `{}]}}`,
		"nothing":              `{"spec":{"initContainers" : [` + strings.Repeat("null,", 8000) + `null]}}`,
		"in several lists":     `{"spec":{` + strings.Repeat(`"containers":[`+strings.Repeat("{},", 99)+`{}],`, 80) + `"x":1}}`,
		"with an escape":       `{"spec":{"cont\u0061iners":[` + strings.Repeat("{},", 8000) + `{}]}}`,
		"volumes":              `{"spec":{"volumes":[` + strings.Repeat("{},", 25000) + `{}]}}`,
		"each list with one":   `{"spec":{` + strings.Repeat(`"volumes":[{}],`, 25000) + `"x":1}}`,
		"lists of lists":       strings.Repeat("[", 25000) + strings.Repeat("]", 25000),
		"quantities":           `{"x":{` + strings.Repeat(`"a":1,`, 80000) + `"b":1}}`,
		"a string that closes": `{"a":"]}","spec":{"containers":["\"]",` + strings.Repeat("{},", 8000) + `{}]}}`,
	} {
		if code, text := w.ask("/pods", bytes.NewReader(within(object))); code != http.StatusRequestEntityTooLarge || !strings.Contains(text, "longer lists") {
			t.Errorf("%s = %d %q, want 413", name, code, text)
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("log = %q, want nothing: whoever reaches the port could fill it", w.log)
	}
}

// What can be in a pod is far below: strings weigh nothing, whatever is in them.
func TestReviewsThatAreLargeAreRead(t *testing.T) {
	w := start(t, nil)
	pod := &corev1.Pod{}
	pod.Annotations = map[string]string{"text": strings.Repeat(`[{},"containers":[{},`, 20000)}
	for i := range 40 {
		c := corev1.Container{Name: fmt.Sprint("c", i), Image: "registry.example/app:1", Args: []string{"a", "b"}}
		for j := range 100 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("E", j), Value: "v"})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if code, answer := w.ask("/pods", bytes.NewReader(within(string(text)))); code != http.StatusOK {
		t.Errorf("a pod with 40 containers and 4000 variables = %d %q, want 200", code, answer)
	}
}

// The weights are those of the types that a review can hold: a list of something
// larger would have to be named.
func TestWeightsAreThoseOfTheTypes(t *testing.T) {
	containers := map[string]bool{"containers": true, "initContainers": true, "ephemeralContainers": true, "volumeClaimTemplates": true}
	seen, lists := map[reflect.Type]bool{}, 0
	var walk func(reflect.Type)
	walk = func(r reflect.Type) {
		if seen[r] {
			return
		}
		seen[r] = true
		if k := r.Kind(); k == reflect.Pointer || k == reflect.Slice || k == reflect.Map {
			walk(r.Elem())
		} else if k == reflect.Struct {
			for i := range r.NumField() {
				f := r.Field(i)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Type.Kind() == reflect.Slice {
					lists++
					most := uintptr(server.WeightElement)
					if containers[name] {
						most = server.WeightContainer
					}
					if size := f.Type.Elem().Size(); size > most {
						t.Errorf("%s.%s: an element has %d bytes, which weigh %d", r, f.Name, size, most)
					}
				}
				walk(f.Type)
			}
		}
	}
	for _, o := range []any{
		admissionv1.AdmissionReview{}, corev1.Pod{}, corev1.ReplicationController{}, appsv1.Deployment{}, appsv1.StatefulSet{}, appsv1.DaemonSet{},
		appsv1.ReplicaSet{}, batchv1.Job{}, batchv1.CronJob{}, spcv1.SecretProviderClass{},
	} {
		walk(reflect.TypeOf(o))
	}
	if lists < 50 {
		t.Errorf("%d lists found, want those of a pod", lists)
	}
}

// The heaviest review that is read takes some twenty MiB, and not some hundred.
func TestTheHeaviestReviewThatIsRead(t *testing.T) {
	n := server.MaxWeight/server.WeightContainer - 2
	text := []byte(`{"spec":{"containers":[` + strings.Repeat("{},", n-1) + `{}]}}`)
	if w := server.Weigh(text); w > server.MaxWeight {
		t.Fatalf("weight = %d, want no more than %d", w, server.MaxWeight)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var pod corev1.Pod
	if err := json.Unmarshal(text, &pod); err != nil || len(pod.Spec.Containers) != n {
		t.Fatalf("%d containers, %v", len(pod.Spec.Containers), err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 6*server.MaxWeight {
		t.Errorf("reading it took %d bytes, want some times its weight, %d", took, server.MaxWeight)
	}
}

func FuzzWeigh(f *testing.F) {
	for _, text := range []string{`{"containers":[{},{}]}`, `[[[`, `"\`, `{"a":"b`, `]]}}`, `{"a" :[null]}`, `{"\"":[`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		weight := server.Weigh(text)
		if weight < 0 || weight > len(text)*server.WeightContainer {
			t.Errorf("weigh(%q) = %d", text, weight)
		}
		// As many as a decoder finds weigh as much, or more.
		var list struct {
			Containers []json.RawMessage `json:"containers"`
		}
		if json.Unmarshal(text, &list) == nil && bytes.Contains(text, []byte(`"containers"`)) && weight < len(list.Containers)*server.WeightElement {
			t.Errorf("weigh(%q) = %d, want that of %d elements", text, weight, len(list.Containers))
		}
	})
}

// Only JSON is read, and nothing else leaves a line in the log: the decoder would
// try YAML, whose anchors multiply.
func TestOnlyJSONIsRead(t *testing.T) {
	w := start(t, nil)
	for name, body := range map[string]string{
		"yaml": "kind: AdmissionReview\napiVersion: admission.k8s.io/v1\n", "protobuf": "k8s\x00\n", "nothing": "", "a list": `[{}]`, "anchors": "a: &a [x]\nb: [*a,*a]\n",
	} {
		if code, text := w.ask("/pods", strings.NewReader(body)); code != http.StatusUnsupportedMediaType || !strings.Contains(text, "application/json; hint: ") {
			t.Errorf("%s = %d %q, want 415", name, code, text)
		}
	}
	resp, err := w.client.Post(w.url+"/pods", strings.Repeat("x", 9000), bytes.NewReader(review(0)))
	if err != nil || resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("another type = %v, %v, want 415", resp, err)
	}
	if w.log.Len() > 0 {
		t.Errorf("log = %q, want nothing", w.log)
	}
}
