package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

const (
	// kubeletPrefix begins the volume context's keys that kubelet sets.
	kubeletPrefix = "csi.storage.k8s.io/"
	// attrClass names the class in volumeAttributes. The provider gets it
	// with the rest, as upstream has it.
	attrClass = "secretProviderClass"
	// attrProvider makes the upstream driver mount nothing and report success
	// when it says mock_provider, whoever wrote the pod.
	attrProvider = "providerName"
)

// Field names as they stand in manifests.
const (
	fieldParameters = "spec.parameters"
	fieldAttributes = "csi.volumeAttributes"
)

var (
	providerPattern  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}$`)
	parameterPattern = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_./]{0,252}$`)
)

// Merge returns the parameters that the provider will get, and the sorted names
// of those that the volume's attributes changed or added. As in the upstream
// driver the attributes win over the class. Errors are *FieldError or
// *SpoofError. Providers that read the pod's annotations find none.
func Merge(class *spcv1.SecretProviderClass, volumeAttributes map[string]string) (Effective, []string, error) {
	return merge(class, volumeAttributes, nil)
}

func merge(class *spcv1.SecretProviderClass, volumeAttributes, podAnnotations map[string]string) (Effective, []string, error) {
	provider := string(class.Spec.Provider)
	if !providerPattern.MatchString(provider) {
		return Effective{}, nil, &FieldError{"spec.provider", "of the SecretProviderClass is not a provider name",
			"use 1 to 30 letters, digits, _ or -"}
	}
	if len(class.Spec.Parameters) == 0 {
		return Effective{}, nil, &FieldError{fieldParameters, "of the SecretProviderClass is empty", "list the secrets there"}
	}
	if err := checkAttributes(class.Name, volumeAttributes); err != nil {
		return Effective{}, nil, err
	}
	merged := maps.Clone(class.Spec.Parameters)
	maps.Copy(merged, volumeAttributes)
	if err := checkParameters(class.Spec.Parameters, fieldParameters); err != nil {
		return Effective{}, nil, err
	}
	if err := checkSize(merged, policies.MaxParameterBytes, fieldParameters); err != nil {
		return Effective{}, nil, err
	}
	digest, objects, err := identify(provider, merged, podAnnotations)
	if err != nil {
		return Effective{}, nil, err
	}
	e := Effective{provider: provider, digest: digest, objects: objects, merged: func() map[string]string { return merged }}
	return e, overrides(class.Spec.Parameters, volumeAttributes), nil
}

// checkAttributes refuses attributes that a provider or an upstream driver
// would take for more than parameters.
func checkAttributes(class string, attributes map[string]string) error {
	switch _, legacy := attributes[attrProvider]; {
	case attributes[attrClass] == "":
		return &FieldError{entry(fieldAttributes, attrClass), "is missing", "name the SecretProviderClass there"}
	case attributes[attrClass] != class:
		return &FieldError{entry(fieldAttributes, attrClass), "names another SecretProviderClass than the one that was read",
			"name a SecretProviderClass of the pod's namespace"}
	case legacy:
		return &FieldError{entry(fieldAttributes, attrProvider), "is not accepted",
			"remove it: the SecretProviderClass names the provider"}
	}
	return checkParameters(attributes, fieldAttributes)
}

// checkParameters refuses names that kubelet owns or that cannot be shown, and
// text that is not UTF-8: encoding would replace it, and two different maps
// would share a digest.
func checkParameters(parameters map[string]string, field string) error {
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case strings.HasPrefix(strings.ToLower(key), kubeletPrefix):
			return &SpoofError{entry(field, key)}
		case !parameterPattern.MatchString(key):
			return &FieldError{entry(field, key), "is not a parameter name", "use letters, digits, -, _, . and /"}
		case !utf8.ValidString(parameters[key]):
			return &FieldError{entry(field, key), "is not UTF-8", "encode binary values, for example as base64"}
		}
	}
	return nil
}

func checkSize(m map[string]string, limit int, field string) error {
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
	}
	if size > limit {
		return &FieldError{field, fmt.Sprintf("is larger than %d KiB", limit>>10), "make it smaller, or split the object"}
	}
	return nil
}

// annotationPrefix begins what stands for an annotation in the digest. No
// parameter's name has a space.
const annotationPrefix = "annotation "

// identify reads the parameters to learn which hold credentials, which
// annotations of the pod say what they leave open, and what the provider will
// report. Without those annotations in the digest a grant of parameters in full
// would be one of whatever anybody writes into the pod.
func identify(provider string, merged, podAnnotations map[string]string) (digest string, objects []string, err error) {
	reading := read(provider, merged, podAnnotations, "")
	identity := secretref.Redact(merged, reading.LiteralCredentials)
	for name, value := range reading.Annotations {
		if !utf8.ValidString(value) {
			return "", nil, &FieldError{entry("metadata.annotations", name), "is not UTF-8", "write the list in UTF-8"}
		}
		identity[annotationPrefix+name] = value
	}
	canonical, err := json.Marshal(identity)
	if err != nil {
		return "", nil, fmt.Errorf("digest parameters: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), reading.ObjectIDs, nil
}

// read leaves out the class's name: it is in no provider's syntax.
func read(provider string, merged, podAnnotations map[string]string, digest string) secretref.Reading {
	parameters := maps.Clone(merged)
	delete(parameters, attrClass)
	return secretref.For(provider).Read(secretref.Params{
		Provider: provider, Parameters: parameters, PodAnnotations: podAnnotations, Digest: digest,
	})
}

func overrides(class, attributes map[string]string) []string {
	var names []string
	for name, value := range attributes {
		if set, ok := class[name]; name != attrClass && (!ok || set != value) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
