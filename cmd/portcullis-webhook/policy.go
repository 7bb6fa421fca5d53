package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

func (h *hook) openPolicy(ctx context.Context) error {
	var err error
	h.policy, err = bundle.NewSource(bundle.Config{Verifier: bundle.Path(h.o.policy), AllowUnsigned: h.o.development.allowsUnsigned(), Report: h.reportPolicy})
	if err != nil {
		return err
	}
	if err := h.policy.Reload(ctx); err != nil {
		if errors.Is(err, bundle.ErrUnsigned) {
			return err
		}
		// A bundle that is broken today may be mended while the webhook runs; until
		// then every review is refused.
		h.logger.Error("no active policy, every review is refused", slog.Any(keyError, err))
	}
	return nil
}

// reportPolicy records what became of a bundle.
func (h *hook) reportPolicy(r bundle.Report) {
	b := audit.Bundle{Digest: r.Digest, Previous: h.activePolicy, Serial: r.Manifest.Serial, Signed: r.Signed}
	h.activePolicy = r.Active
	if r.Err == nil {
		h.logger.Info("policy active", slog.String(keyDigest, r.Digest), slog.Int64(keySerial, r.Manifest.Serial), slog.Bool(keySigned, r.Signed))
		h.audit.KeepBundle(r.Digest, r.Bundle)
		h.audit.Recorder().Owe(audit.PolicyLoaded(b))
		return
	}
	b.Reason = bundleReason(r)
	h.logger.Error("policy not loaded, the active one stays", slog.String(keyActive, r.Active), slog.Any(keyError, r.Err))
	h.audit.Recorder().Owe(audit.PolicyLoadFailed(b))
}

func bundleReason(r bundle.Report) audit.Reason {
	switch {
	case errors.Is(r.Err, bundle.ErrUnsigned):
		return audit.ReasonBundleUnsigned
	case errors.Is(r.Err, bundle.ErrExpired):
		return audit.ReasonBundleExpired
	case r.Digest == "":
		return audit.ReasonBundleUnreadable
	default:
		return audit.ReasonBundleInvalid
	}
}

func (h *hook) watchPolicy(ctx context.Context) {
	if err := h.policy.Run(ctx, h.o.policyPoll); err != nil && ctx.Err() == nil {
		h.logger.Error("policy is no longer watched", slog.Any(keyError, err))
	}
}

// reloads triggers a policy reload at every SIGHUP.
func (h *hook) reloads(ctx context.Context) {
	for {
		select {
		case <-h.hup:
			h.policy.Trigger()
		case <-ctx.Done():
			return
		}
	}
}
