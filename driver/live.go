package driver

import "iter"

// Volumes returns the volumes that are mounted now, by the UID of their pod and
// their name: each was published, or found mounted at the start.
func (r *Records) Volumes() iter.Seq2[string, string] {
	return func(yield func(podUID, volume string) bool) {
		for _, k := range r.keys() {
			if !yield(k.podUID, k.volume) {
				return
			}
		}
	}
}
