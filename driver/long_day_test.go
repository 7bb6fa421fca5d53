// The race detector sees no more in a thousand tries of one caller than in a
// few, and takes some twenty times as long.

//go:build !race

package driver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestAPodRefusedForADay is tried as kubelet does: after half a second, then
// twice as late each time, at last every 2 min 2 s.
func TestAPodRefusedForADay(t *testing.T) {
	policiestest.Engine(t, "") // compiled outside the bubble
	policiestest.Engine(t, grants)
	unknown := apiPod()
	unknown.attributes = map[string]string{"secretProviderClass": "none"}
	tests := []struct {
		name   string
		pod    pod
		grants string
		reason audit.Reason
		most   int
	}{
		{"denied by policy", apiPod(), "", audit.ReasonPolicyDenied, 150},
		{"refused before policy", unknown, grants, audit.ReasonClassNotFound, 150},
		{"allowed, and the provider is not there", apiPod(), grants, audit.ReasonProviderUnavailable, 290},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := quietNode(t, tt.grants)
				n.add(tt.pod)
				const first, last = 500 * time.Millisecond, 2*time.Minute + 2*time.Second
				begin, tries := time.Now(), 0
				for wait := first; time.Since(begin) < 24*time.Hour; wait = min(wait*2, last) {
					if _, err := n.driver.NodePublishVolume(t.Context(), n.request(tt.pod)); err == nil {
						t.Fatal("NodePublishVolume() = nil, want an error")
					}
					tries++
					time.Sleep(wait)
				}
				time.Sleep(time.Hour) // the last count
				events := n.recorded()
				told, open := 0, map[string]bool{}
				for _, e := range events {
					switch {
					case e.Type == audit.TypeAuditRepeated:
						told += int(e.Count)
					case e.Stage != audit.StageComplete:
						told += 1 + int(e.Repeated)
					}
					if e.Stage == audit.StageIntent {
						open[e.ID] = true
					} else if e.Reason != tt.reason {
						t.Fatalf("an event has reason %q, want %q", e.Reason, tt.reason)
					}
					delete(open, e.ParentID)
				}
				if len(events) > tt.most || told != tries || tries < 700 || len(open) > 0 {
					t.Errorf("%d tries leave %d events that tell of %d, and %d intents without an end; want at most %d, all tries and none", tries, len(events), told, len(open), tt.most)
				}
				t.Logf("%d tries in a day leave %d events", tries, len(events))
			})
		})
	}
}
