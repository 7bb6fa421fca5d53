package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// object is one of the kinds that are read.
type object interface {
	runtime.Object
	metav1.Object
}

// key is what an object is found by; namespace is empty for Namespace and CSIDriver.
type key struct{ kind, namespace, name string }

// objects are all objects of a directory.
type objects struct {
	byKey map[key]object
	in    map[key]string // name of the file
}

// decoder decodes as the API server does in strict validation: exact field
// names, no unknown ones, none twice.
type decoder struct{ serializer *json.Serializer }

func newDecoder() decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.Namespace{}, &corev1.ServiceAccount{})
	scheme.AddKnownTypes(storagev1.SchemeGroupVersion, &storagev1.CSIDriver{})
	scheme.AddKnownTypes(spcv1.SchemeGroupVersion, &spcv1.SecretProviderClass{})
	return decoder{json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})}
}

// all decodes every document of every file.
func (d decoder) all(files []file) (*objects, error) {
	all := &objects{byKey: make(map[key]object), in: make(map[key]string)}
	for _, f := range files {
		r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(f.data)))
		for n := 1; ; n++ {
			doc, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = d.add(all, f.name, doc)
			}
			if err != nil {
				return nil, fmt.Errorf("read manifest %q, document %d: %w", f.name, n, err)
			}
		}
	}
	return all, nil
}

// add decodes one document and keeps it.
func (d decoder) add(all *objects, file string, doc []byte) error {
	if empty(doc) {
		return nil
	}
	if ended(doc) {
		return errors.New("ends with ... before its end: put --- between documents")
	}
	decoded, gvk, err := d.serializer.Decode(doc, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		return errors.New("is not a v1 Pod, Namespace or ServiceAccount, nor a v1 SecretProviderClass or CSIDriver")
	}
	if runtime.IsMissingKind(err) || runtime.IsMissingVersion(err) {
		// The library's own text repeats the whole document.
		return errors.New("has no apiVersion or no kind")
	}
	if err != nil {
		return err
	}
	o, ok := decoded.(object)
	if !ok {
		return errors.New("has no metadata")
	}
	k := key{gvk.Kind, o.GetNamespace(), o.GetName()}
	if err := checkKey(k); err != nil {
		return err
	}
	if other, ok := all.in[k]; ok {
		return fmt.Errorf("%s %q is also in %q", k.kind, k.name, other)
	}
	all.byKey[k], all.in[k] = o, file
	return nil
}

// checkKey applies the API server's rules for names.
func checkKey(k key) error {
	if len(validation.IsDNS1123Subdomain(k.name)) > 0 {
		return fmt.Errorf("metadata.name of %s is missing or not a name", k.kind)
	}
	if k.kind == "Namespace" || k.kind == "CSIDriver" {
		if k.namespace != "" {
			return fmt.Errorf("metadata.namespace of a %s is set", k.kind)
		}
		return nil
	}
	if len(validation.IsDNS1123Label(k.namespace)) > 0 {
		return fmt.Errorf("metadata.namespace of %s %q is missing or not a name", k.kind, k.name)
	}
	return nil
}

// ended reports a document that YAML ends with a line of dots. The reader of
// documents splits at lines of dashes only, and what follows would be lost
// without a word.
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
