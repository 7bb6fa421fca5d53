package apiserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// specAnnotation holds, of a pod that is too large to be kept, what tells
// whether it has changed.
const specAnnotation = "portcullis.dev/spec"

// revision is a pod and its spec at one time. The zero value is no pod.
type revision struct{ uid, spec string }

// revisionOf reads an object of the cache.
func revisionOf(o any) revision {
	pod, ok := o.(*corev1.Pod)
	switch {
	case !ok:
		return revision{}
	case pod.UID == "":
		uid, spec, _ := strings.Cut(pod.Annotations[specAnnotation], " ")
		return revision{uid, spec}
	}
	return revision{string(pod.UID), specOf(pod)}
}

// specOf is the digest of what a cache keeps of a pod's spec. What may change of
// that in a running pod are the images of its containers, and ephemeral
// containers that are added.
func specOf(pod *corev1.Pod) string {
	text, err := json.Marshal(pod.Spec)
	if err != nil {
		return "" // no type of the API fails
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// annotated is the annotation of a pod that is too large to be kept.
func annotated(pod *corev1.Pod) map[string]string {
	return map[string]string{specAnnotation: string(pod.UID) + " " + specOf(pod)}
}

// at returns what the cache has of one pod.
func (c *cached) at(o any) revision {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o)
	if err != nil {
		return revision{}
	}
	found, _, err := c.store.GetByKey(key)
	if err != nil {
		return revision{}
	}
	return revisionOf(found)
}

// put puts one object in place, and tells of a pod that has changed, once
// whoever asks finds it so.
func (s heardStore) put(o any, put func(any) error) error {
	if s.c.changed == nil {
		return s.c.after(put(o))
	}
	before := s.c.at(o)
	if err := s.c.after(put(o)); err != nil {
		return err
	}
	s.c.tell(before, s.c.at(o))
	return nil
}

// tell reports a change of one pod. Another pod of the same name is not a change.
func (c *cached) tell(before, now revision) {
	if before.uid != "" && before.uid == now.uid && before.spec != now.spec {
		c.changed(before.uid)
	}
}

// replace puts all objects in place. Nobody has watched since the last ones, so
// that any pod may have changed.
func (s heardStore) replace(all []any, version string) error {
	if s.c.changed == nil {
		return s.c.after(s.Store.Replace(all, version))
	}
	before := map[string]revision{}
	for _, o := range s.List() {
		r := revisionOf(o)
		before[r.uid] = r
	}
	if err := s.c.after(s.Store.Replace(all, version)); err != nil {
		return err
	}
	for _, o := range s.List() {
		r := revisionOf(o)
		s.c.tell(before[r.uid], r)
	}
	return nil
}
