package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	maxDocuments = 20_000
	// maxListDepth: a List may hold Lists, and nobody writes them deeper.
	maxListDepth = 4
	// maxErrorText bounds what an error repeats of a document.
	maxErrorText = 300
)

// object is one of the kinds that are read.
type object interface {
	runtime.Object
	metav1.Object
}

// decoder decodes as the API server does in strict validation.
type decoder struct {
	serializer *json.Serializer
	documents  int
	found      *Objects
}

func newDecoder(into *Objects) *decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodTemplate{}, &corev1.ReplicationController{}, &corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.List{})
	scheme.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}, &appsv1.ReplicaSet{})
	scheme.AddKnownTypes(batchv1.SchemeGroupVersion, &batchv1.Job{}, &batchv1.CronJob{})
	scheme.AddKnownTypes(spcv1.SchemeGroupVersion, &spcv1.SecretProviderClass{})
	return &decoder{
		serializer: json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true}),
		found:      into,
	}
}

// file decodes every document of a file.
func (d *decoder) file(f File) error {
	r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(f.Text)))
	for n := 1; ; n++ {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = d.document(doc, f.Name, 0)
		}
		if err != nil {
			return fmt.Errorf("read manifest %q, document %d: %w", f.Name, n, err)
		}
	}
}

// document decodes one document and keeps it.
func (d *decoder) document(doc []byte, file string, depth int) error {
	if empty(doc) {
		return nil
	}
	if d.documents++; d.documents > maxDocuments {
		return fmt.Errorf("more than %d objects; hint: name fewer files", maxDocuments)
	}
	if ended(doc) {
		return errors.New("ends with ... before its end; hint: put --- between documents")
	}
	decoded, kind, err := d.serializer.Decode(doc, nil, nil)
	switch {
	case runtime.IsNotRegisteredError(err):
		return d.skip(kind.GroupKind().String())
	case runtime.IsMissingKind(err) || runtime.IsMissingVersion(err):
		// The library's own text repeats the whole document.
		return errors.New("has no apiVersion or no kind; hint: it is no Kubernetes manifest")
	case err != nil:
		return fmt.Errorf("%s; hint: kubectl apply would refuse it too", shortened(err))
	}
	if list, ok := decoded.(*corev1.List); ok {
		return d.list(list, file, depth+1)
	}
	o, ok := decoded.(object)
	if !ok {
		return errors.New("has no metadata")
	}
	return d.found.add(o, kind.Kind, file)
}

// skip counts objects of kinds that have no secrets volumes: what helm and
// kustomize print has services and more.
func (d *decoder) skip(kind string) error {
	if len(kind) > 253 {
		return errors.New("has a kind of more than 253 characters")
	}
	d.found.Ignored[kind]++
	return nil
}

func (d *decoder) list(list *corev1.List, file string, depth int) error {
	if depth > maxListDepth {
		return fmt.Errorf("has a List nested more than %d deep", maxListDepth)
	}
	for i, item := range list.Items {
		if err := d.document(item.Raw, file, depth); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return nil
}

// shortened bounds an error of the decoder and escapes what a terminal could
// take for a command: it repeats names of fields, which anybody wrote.
func shortened(err error) string {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "..."
	}
	quoted := strconv.QuoteToGraphic(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// ended reports a document that YAML ends with a line of dots: what follows
// would be lost without a word, since documents are split at dashes.
func ended(doc []byte) bool {
	for line := range strings.Lines(string(doc)) {
		if line = strings.TrimRight(line, " \t\r\n"); line == "..." || strings.HasPrefix(line, "... ") {
			return true
		}
	}
	return false
}

// empty reports a document of comments and white space only.
func empty(doc []byte) bool {
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		if line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}
