package audit_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
)

// TestCloseWritesWhatWasOwedJustBefore: an event that is owed in the moment in
// which the writer finds nothing to do, just before the end, is written all the same.
func TestCloseWritesWhatWasOwedJustBefore(t *testing.T) {
	const recorders = 8 // at once, so that they interrupt each other
	var group sync.WaitGroup
	for range recorders {
		group.Go(func() {
			for range 1000 {
				r, l := audittest.New(t)
				r.Owe(audit.DriverStarted())
				for len(l.Leaves()) == 0 { // until the writer looks for more
					runtime.Gosched()
				}
				r.Owe(audit.DriverStopped(audit.ReasonSignal))
				err := r.Close(t.Context())
				if n := len(l.Events(t)); err != nil || n != 2 {
					t.Errorf("%d events are written, want 2; Close() = %v", n, err)
					return
				}
			}
		})
	}
	group.Wait()
}
