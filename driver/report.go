package driver

import (
	"context"
	"errors"
	"log/slog"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/policies"
)

// refuse turns the error of a first publish into the reply, and counts and
// logs it.
func (d *Driver) refuse(ctx context.Context, m *mountRequest, err error) error {
	o := classify(err)
	d.metrics.published(ctx, m.provider, o.metric)
	d.c.Logger.WarnContext(ctx, "mount refused", slog.String(keyNamespace, m.claim.Namespace), slog.String(keyPod, m.claim.Pod),
		slog.String(keyVolume, m.key.volume), slog.String(keyCode, o.code.String()), slog.String(keyError, o.text), slog.String(keyCause, causeOf(err)), slog.String(keyDecision, o.decision))
	return statusOf(err)
}

// causeOf is what the plugin's own log says beyond the reply: the words of the
// kernel and of our packages, which the pod's author has no business with.
func causeOf(err error) string {
	if e, ok := errors.AsType[*budgetError](err); ok {
		return e.detail()
	}
	switch classify(err).reason {
	case audit.ReasonInternal, audit.ReasonFileRefused, audit.ReasonVolumeFailed, audit.ReasonFactsUnavailable, audit.ReasonAuditUnavailable:
		return err.Error()
	default:
		return ""
	}
}

// subject is what the driver knows of the pod at a target: what it remembers,
// and what the target path says.
func (d *Driver) subject(k targetKey) audit.Claim {
	rec, _ := d.c.Records.get(k)
	return audit.Claim{Namespace: rec.Namespace, Pod: rec.Pod, PodUID: k.podUID, ServiceAccount: rec.ServiceAccount, Volume: k.volume}
}

// auditClaim is what a request says of its pod, unconfirmed.
func auditClaim(m *mountRequest) audit.Claim {
	return audit.Claim{
		Namespace: m.claim.Namespace, Pod: m.claim.Pod, PodUID: m.key.podUID,
		ServiceAccount: m.claim.ServiceAccount, Volume: m.key.volume,
	}
}

// reasonOf is the event's word for an error, "" for none.
func reasonOf(err error) audit.Reason {
	if err == nil {
		return ""
	}
	return classify(err).reason
}

// filesOf lists what a pod got to see, which is nothing after an error.
func filesOf(got provider.Delivered, err error) []audit.File {
	if err != nil {
		return nil
	}
	files := make([]audit.File, 0, len(got.Files))
	for _, f := range got.Files {
		files = append(files, audit.File{Path: f.Path, Mode: uint32(f.Mode.Perm()), UID: f.UID, Size: f.Size, Version: f.Version})
	}
	return files
}

// maxVersionBytes bounds what is remembered of one volume's versions, which a
// provider chooses. Without them it is only asked for everything again.
const maxVersionBytes = 64 << 10

func versionsOf(got provider.Delivered) []objectVersion {
	versions := make([]objectVersion, 0, len(got.Versions))
	size := 0
	for _, v := range got.Versions {
		size += len(v.ID) + len(v.Version)
		versions = append(versions, objectVersion(v))
	}
	if size > maxVersionBytes {
		return nil
	}
	return versions
}

func providerVersions(versions []objectVersion) []provider.ObjectVersion {
	out := make([]provider.ObjectVersion, 0, len(versions))
	for _, v := range versions {
		out = append(out, provider.ObjectVersion(v))
	}
	return out
}

func (d *Driver) countDecision(ctx context.Context, phase policies.Phase, v policies.Verdict) {
	d.metrics.decisions.Add(ctx, 1, with("phase", string(phase), "verdict", v.String()))
}

func (d *Driver) countClamped(ctx context.Context, name string, got provider.Delivered) {
	if n := len(got.Clamped); n > 0 {
		d.metrics.clamped.Add(ctx, int64(n), with("provider", name))
	}
}
