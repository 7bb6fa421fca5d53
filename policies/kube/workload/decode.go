package workload

import (
	"bufio"
	"bytes"
	encoding "encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	kyaml "sigs.k8s.io/yaml"
)

const (
	maxDocuments = 20_000
	// maxListDepth: a List may hold Lists, and nobody writes them deeper.
	maxListDepth = 4
	// maxErrorText bounds what an error repeats of a document.
	maxErrorText = 300
	maxKindBytes = 253
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
		switch {
		case err != nil:
			err = errors.New(shortened(err))
		case !empty(doc):
			if err = single(doc); err == nil {
				err = d.document(doc, f.Name, 0)
			}
		}
		if err != nil {
			return fmt.Errorf("read manifest %q, document %d: %w", f.Name, n, err)
		}
	}
}

// document decodes one document and keeps it.
func (d *decoder) document(doc []byte, file string, depth int) error {
	if d.documents++; d.documents > maxDocuments {
		return fmt.Errorf("more than %d objects; hint: name fewer files", maxDocuments)
	}
	decoded, kind, err := d.serializer.Decode(doc, nil, nil)
	switch {
	case runtime.IsNotRegisteredError(err):
		return d.unknown(doc, *kind, place{file, depth})
	case runtime.IsMissingKind(err) || runtime.IsMissingVersion(err):
		// The library's own text repeats the whole document.
		return errors.New("has no apiVersion or no kind; hint: it is no Kubernetes manifest")
	case err != nil:
		return fmt.Errorf("%s; hint: kubectl apply would refuse it too", shortened(err))
	}
	if list, ok := decoded.(*corev1.List); ok {
		return d.list(list.Items, place{file, depth + 1})
	}
	o, ok := decoded.(object)
	if !ok {
		return errors.New("has no metadata")
	}
	return d.found.add(o, kind.Kind, file)
}

// place is where a document stands.
type place struct {
	file  string
	depth int // of Lists
}

// unknown counts objects of kinds that have no secrets volumes: what helm and
// kustomize print has services and more. A PodList or DeploymentList is none of
// them: kubectl applies what is in it.
func (d *decoder) unknown(doc []byte, kind schema.GroupVersionKind, at place) error {
	items, err := itemsOf(doc, kind)
	if err != nil {
		return err
	}
	if items != nil {
		return d.list(items, place{at.file, at.depth + 1})
	}
	name := kind.GroupKind().String()
	if len(name) > maxKindBytes {
		return fmt.Errorf("has a kind of more than %d characters", maxKindBytes)
	}
	d.found.Ignored[name]++
	return nil
}

// itemsOf returns the items of a list of any kind, nil of what is no list. Items
// that name no kind have that of their list.
func itemsOf(doc []byte, kind schema.GroupVersionKind) ([]runtime.RawExtension, error) {
	text, err := kyaml.YAMLToJSONStrict(doc) // of a kind that stands there twice, another reader takes the other
	item, isList := strings.CutSuffix(kind.Kind, "List")
	switch {
	case err != nil:
		return nil, errors.New(shortened(err))
	case !isList:
		return nil, nil
	}
	var list struct {
		Items []map[string]encoding.RawMessage `json:"items"`
	}
	if err := encoding.Unmarshal(text, &list); err != nil {
		return nil, errors.New("is a list whose items are no objects")
	}
	var items []runtime.RawExtension
	for _, object := range list.Items {
		if object != nil && object["kind"] == nil && object["apiVersion"] == nil {
			object["kind"], object["apiVersion"] = quotedJSON(item), quotedJSON(kind.GroupVersion().String())
		}
		text, err := encoding.Marshal(object)
		if err != nil {
			return nil, errors.New("is a list whose items are no objects")
		}
		items = append(items, runtime.RawExtension{Raw: text})
	}
	return items, nil
}

// quotedJSON is a name that the decoder has read, as JSON.
func quotedJSON(name string) encoding.RawMessage {
	text, err := encoding.Marshal(name)
	if err != nil {
		return encoding.RawMessage("null") // no text is refused
	}
	return text
}

func (d *decoder) list(items []runtime.RawExtension, at place) error {
	if at.depth > maxListDepth {
		return fmt.Errorf("has a List nested more than %d deep", maxListDepth)
	}
	for i, item := range items {
		if err := d.document(item.Raw, at.file, at.depth); err != nil {
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

// single refuses a document in which YAML sees several: at a line of dots, at
// dashes after a line end that only YAML knows (a lone CR, U+2028), or one JSON
// value behind the other. The decoder takes the first, and what follows would be
// lost without a word, though kubectl applies some of it.
func single(doc []byte) error {
	const hint = "; hint: put a line with --- between documents"
	for line := range strings.Lines(string(doc)) {
		if line = strings.TrimRight(line, " \t\r\n"); line == "..." || strings.HasPrefix(line, "... ") {
			return errors.New("ends with ... before its end" + hint)
		}
	}
	d := yamlv3.NewDecoder(bytes.NewReader(doc))
	var first, second yamlv3.Node
	if err := d.Decode(&first); err != nil {
		return errors.New(shortened(err))
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("holds more than one document" + hint)
	}
	return nil
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
