package driver

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
)

// targetOutcome knows what somebody else did to the directories of a volume.
// Nothing of it is final: once it is over, kubelet's next call succeeds.
func targetOutcome(err error) (outcome, bool) {
	const hint = "find out who writes below the kubelet's pods directory, and delete the pod; it may be a provider (AWS: --driver-writes-secrets=true)"
	if _, ok := errors.AsType[*hardening.ScrubError](err); ok {
		return outcome{codes.Unavailable, audit.ReasonVolumeFailed, metricTarget, "the target directory cannot be emptied", hint, ""}, true
	}
	for _, e := range []struct {
		is   error
		text string
	}{
		{errTargetGone, errTargetGone.Error()},
		{hardening.ErrNotDirectory, "the target or a directory above it is a link or a file"},
		{hardening.ErrChanging, "somebody changes the target while it is used"},
		{hardening.ErrMounted, "something was mounted at the target meanwhile"},
		{hardening.ErrOccupied, "something was written into the target meanwhile"},
		{hardening.ErrNotOurs, "the volume at the target is not this pod's"},
	} {
		if errors.Is(err, e.is) {
			return outcome{codes.Unavailable, audit.ReasonVolumeFailed, metricTarget, e.text, hint, ""}, true
		}
	}
	return outcome{}, false
}
