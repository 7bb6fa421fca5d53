package podstatus

import (
	"time"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	// quickLimit is how long an attempt may take that others wait for. An
	// admission webhook of one namespace may take up to 30 seconds.
	quickLimit = 5 * time.Second
	// slowFor is how long a namespace counts as slow after an attempt that was.
	slowFor = 10 * time.Minute
)

// lane keeps slow namespaces from holding up the others. An attempt has little
// time. Where that was not enough, the objects of its namespace take turns from
// then on, one at a time with those of all slow namespaces, each with time
// enough, until one is written quickly: whatever becomes of them, all workers but
// one are there for the others. The lock of the Writer guards it.
type lane struct {
	quick  time.Duration
	until  map[string]time.Time // by namespace: how long it counts as slow
	taken  bool
	parked []objectKey // queued once each: by their entry
}

func newLane() lane { return lane{quick: quickLimit, until: map[string]time.Time{}} }

// enter returns how long an attempt may take, and whether it is in the lane; or
// parks it, if another one is.
func (l *lane) enter(k objectKey) (limit time.Duration, slow, may bool) {
	if !time.Now().Before(l.until[k.namespace]) {
		return l.quick, false, true
	}
	if l.taken {
		l.parked = append(l.parked, k)
		return 0, true, false
	}
	l.taken = true
	return requestTimeout, true, true
}

// leave notes how long an attempt took, and returns what was parked: each is
// tried, or parked again.
func (l *lane) leave(namespace string, o outcome) (parked []objectKey) {
	switch {
	case o.took >= l.quick:
		now := time.Now()
		for other, until := range l.until { // or it would keep what was deleted long ago
			if !now.Before(until) {
				delete(l.until, other)
			}
		}
		l.until[namespace] = now.Add(slowFor)
	case o.err == nil:
		delete(l.until, namespace)
	}
	if !o.attempt.slow {
		return nil
	}
	parked, l.taken, l.parked = l.parked, false, nil
	return parked
}

// maxKept bounds what is remembered of one live object, in bytes: 500 of them
// must fit beside what a node mounts.
const maxKept = 96 << 10

// kept returns what is remembered of a live object: itself, or nothing, if
// somebody made it large. It is read again then before it is written.
func kept(o *spcv1.SecretProviderClassPodStatus) *spcv1.SecretProviderClassPodStatus {
	if o == nil {
		return nil
	}
	const each = 64 // what an element takes beside its text
	size := len(o.Status.TargetPath) + len(o.Status.PodName) + len(o.Status.SecretProviderClassName)
	for _, v := range o.Status.Objects {
		size += each + len(v.ID) + len(v.Version)
	}
	for _, m := range []map[string]string{o.Labels, o.Annotations} {
		for k, v := range m {
			size += each + len(k) + len(v)
		}
	}
	for _, f := range o.Finalizers {
		size += each + len(f)
	}
	for _, r := range o.OwnerReferences {
		size += each + len(r.APIVersion) + len(r.Kind) + len(r.Name) + len(r.UID)
	}
	if size > maxKept {
		return nil
	}
	return o
}
