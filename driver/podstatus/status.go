package podstatus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// What of a provider's text is written as it is. The rule for versions is that
// of the audit log.
var (
	patternID      = regexp.MustCompile(`^[-A-Za-z0-9_.:/+=@,~#%$()\[\] ]{1,512}$`)
	patternVersion = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.:/+=@]{0,127}|sha256:[0-9a-f]{64})$`)
)

const (
	// maxObjects bounds one status object: with 512 bytes an id it stays far
	// below what an API server stores, 1.5 MiB.
	maxObjects = 512
	// maxTargetPath is PATH_MAX (limits.h).
	maxTargetPath = 4096
	maxUID        = 64
)

// Object is one object of a provider, and which version of it is mounted. Both
// are the provider's words.
type Object struct{ ID, Version string }

// Status is what one volume of a pod holds.
type Status struct {
	Namespace  string // a DNS label
	Pod        string // its name
	PodUID     string
	Class      string // name of the SecretProviderClass, in the pod's namespace
	Volume     string // name of the volume in the pod
	TargetPath string // where kubelet had it mounted
	Objects    []Object
}

// volumeKey tells volumes apart.
type volumeKey struct{ podUID, volume string }

func (s Status) volume() volumeKey { return volumeKey{s.PodUID, s.Volume} }

func (s Status) object() objectKey {
	return objectKey{s.Namespace, Name(s.Pod, s.Namespace, s.Class)}
}

// check refuses what cannot be an object of the API: better here, once, than by
// the API server for ever.
func (s Status) check() error {
	for _, f := range []struct {
		field, value string
		faults       []string
	}{
		{"namespace", s.Namespace, validation.IsDNS1123Label(s.Namespace)},
		{"pod name", s.Pod, validation.IsDNS1123Subdomain(s.Pod)},
		{"class", s.Class, validation.IsDNS1123Subdomain(s.Class)},
		{"volume", s.Volume, validation.IsDNS1123Label(s.Volume)},
	} {
		if len(f.faults) > 0 {
			return fmt.Errorf("keep status of volume: %s %.64q is not a Kubernetes name: give what the API server confirmed", f.field, f.value)
		}
	}
	if s.PodUID == "" || len(s.PodUID) > maxUID {
		return fmt.Errorf("keep status of volume: the pod UID has %d bytes, not 1 to %d", len(s.PodUID), maxUID)
	}
	if len(s.TargetPath) > maxTargetPath {
		return fmt.Errorf("keep status of volume: the target path has %d bytes, more than %d", len(s.TargetPath), maxTargetPath)
	}
	return nil
}

// vetted returns the status with objects that may be shown, sorted by id, each
// once. What does not look like an id or a version becomes its SHA-256, which
// still changes when it does.
func (s Status) vetted() Status {
	byID := make(map[string]string, len(s.Objects))
	for _, o := range s.Objects {
		byID[vetted(patternID, o.ID)] = vetted(patternVersion, o.Version)
	}
	s.Objects = sorted(byID)
	return s
}

func vetted(pattern *regexp.Regexp, text string) string {
	if text == "" || pattern.MatchString(text) {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sorted(byID map[string]string) []Object {
	objects := make([]Object, 0, len(byID))
	for id, version := range byID {
		objects = append(objects, Object{id, version})
	}
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.ID, b.ID) })
	return objects
}

func (s Status) equal(other Status) bool {
	return s.TargetPath == other.TargetPath && slices.Equal(s.Objects, other.Objects)
}

// merge makes one status of the volumes of one pod that name the same class,
// which share an object. Where they differ, in their target path or in the
// version of an object, the volume counts whose name comes first: that does not
// depend on the order in which they were mounted. What there is beyond
// maxObjects is left out.
func merge(volumes map[string]Status) spcv1.SecretProviderClassPodStatusStatus {
	names := slices.Sorted(maps.Keys(volumes))
	if len(names) == 0 {
		return spcv1.SecretProviderClassPodStatusStatus{}
	}
	first := volumes[names[0]]
	byID := map[string]string{}
	for _, name := range slices.Backward(names) {
		for _, o := range volumes[name].Objects {
			byID[o.ID] = o.Version
		}
	}
	out := spcv1.SecretProviderClassPodStatusStatus{
		PodName: first.Pod, SecretProviderClassName: first.Class, Mounted: true, TargetPath: first.TargetPath,
	}
	objects := sorted(byID)
	for _, o := range objects[:min(len(objects), maxObjects)] {
		out.Objects = append(out.Objects, spcv1.SecretProviderClassObject{ID: o.ID, Version: o.Version})
	}
	return out
}
