package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// openPolicy opens the source of policy. The webhook keeps the cluster's floor: it
// tells it the serial of each signed bundle that it has put in force.
func (h *hook) openPolicy(ctx context.Context) error {
	var err error
	h.policy, err = daemon.OpenPolicy(ctx, daemon.PolicyConfig{
		Flags: h.o.policy, StateDir: h.o.stateDir, AllowUnsigned: h.o.development.allowsUnsigned(), Audit: h.audit, Logger: h.logger,
		Version: version(), REST: h.rest, RaiseFloor: true, Reported: h.policyReported,
	})
	if err != nil {
		return err
	}
	h.inForce.Store(h.policy)
	h.closers = append(h.closers, h.policy.Close)
	return nil
}

// openCandidate makes what has the bundle of --policy-shadow compared. It is there
// before the policy in force, of which it has to know who owns the grants.
func (h *hook) openCandidate(context.Context) error {
	if h.o.policy.Shadow == "" {
		return nil
	}
	c, err := h.o.policy.CandidateSource(version(), h.o.development.allowsUnsigned())
	if err != nil {
		return err
	}
	c.Active, c.Logger = h.active, h.logger
	c.Trial = func(digest string) (func(), error) { return h.inForce.Load().Trial(digest) }
	if h.candidate, err = daemon.NewCandidate(c); err != nil {
		return err
	}
	h.closers = append(h.closers, h.candidate.Close)
	return nil
}

// active is the engine in force. The first report of policy comes before there is a
// source to ask.
func (h *hook) active() *policies.Engine {
	if policy := h.inForce.Load(); policy != nil {
		return policy.Active()
	}
	return nil
}

func (h *hook) policyReported(r bundle.Report) {
	if r.Err == nil && r.Bundle.Data != nil {
		h.candidate.Loaded(r.Bundle)
	}
}

func (h *hook) watchPolicy(ctx context.Context) {
	if err := h.policy.Run(ctx, h.o.policy.PollInterval); err != nil && ctx.Err() == nil {
		h.logger.Error("policy is no longer watched", slog.Any(keyError, err))
	}
}

// reloads triggers a policy reload at every SIGHUP.
func (h *hook) reloads(ctx context.Context) {
	for {
		select {
		case <-h.hup:
			h.policy.Trigger()
			h.candidate.Trigger()
		case <-ctx.Done():
			return
		}
	}
}

// measure registers the metrics of policy, and has root see what the candidate
// would have decided.
func (h *hook) measure(context.Context) error {
	h.audit.ServeShadow(h.candidate.Report)
	return errors.Join(h.policy.Measure(h.meter), h.candidate.Register(h.meter))
}
