package driver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// hangingLog is a disk that does not answer until its caller gives up.
type hangingLog struct {
	*memoryLog
	entered chan struct{}
}

func (l hangingLog) Append(ctx context.Context, _ []byte) (int64, error) {
	select {
	case l.entered <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// What an unpublish ends is ABORTED, and neither a full disk nor a slow policy,
// whose alarms somebody would follow up.
func TestP8UnpublishEndsAPublishThatWaitsForTheLog(t *testing.T) {
	log := hangingLog{&memoryLog{}, make(chan struct{}, 1)}
	n := newNode(t, func(s *setup) { s.events = log })
	published := make(chan error, 1)
	go func() { published <- n.publish(apiPod()) }()
	<-log.entered
	n.mustUnpublish(apiPod())
	expectStatus(t, <-published, codes.Aborted, "the call was given up")
	n.expectNothing(apiPod())
}

func TestP8UnpublishEndsAPublishThatWaitsForPolicy(t *testing.T) {
	endless := policiestest.WithCheck("endless", `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.endless

deny contains finding if {
	count([1 | some i, _ in _many; some j, _ in _many; i == j + 1]) < 0
	finding := {}
}

_many := split(sprintf("%20000d", [1]), "")
`)
	n := newNode(t, func(s *setup) { s.policy = []policiestest.Option{endless} })
	const tries = 100
	for range tries {
		published := make(chan error, 1)
		go func() { published <- n.publish(apiPod()) }()
		expectStatus(t, n.unpublishUntil(published), codes.Aborted)
		n.expectNothing(apiPod())
		if got := summary(n.recorded()); strings.Contains(got, string(audit.ReasonAborted)) {
			if strings.Contains(got, "EvaluationTimeout") {
				t.Errorf("events = %s, want no timeout of policy", got)
			}
			return
		}
	}
	t.Errorf("no unpublish met an evaluation in %d tries", tries)
}

// unpublishUntil unpublishes until a publish has been answered: the first may
// have come before it.
func (n *node) unpublishUntil(published <-chan error) error {
	n.t.Helper()
	for {
		select {
		case err := <-published:
			return err
		case <-time.After(50 * time.Millisecond):
			n.mustUnpublish(apiPod())
		}
	}
}
