package provider_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
)

// TestOneHungProviderDelaysNobodyElse fills every slot of one provider, and
// then some, and delivers from another.
func TestOneHungProviderDelaysNobodyElse(t *testing.T) {
	hung := providertest.New(t, providertest.Hang())
	healthy := providertest.Start(t, providertest.Config{Handler: decent(), Dir: hung.Dir, Name: "other"})
	d := deliverer(t, func(c *provider.Config) { c.Concurrency = 2 }, hung.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 5 {
		call := allowed(t, objects("db-password"))
		wg.Go(func() {
			if _, err := d.Deliver(ctx, call); err == nil {
				t.Error("Deliver() from a hung provider = nil, want an error")
			}
		})
	}
	waitFor(t, func() bool { return len(hung.Calls()) == 2 })
	// Making them compiles a policy each, which a busy machine does slowly.
	calls := make([]provider.Call, 10)
	for i := range calls {
		calls[i] = allowedOther(t)
	}

	begin := time.Now()
	for _, call := range calls {
		if _, err := d.Deliver(t.Context(), call); err != nil {
			t.Errorf("Deliver() from a healthy provider = %v", err)
		}
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("ten deliveries beside a hung provider took %v", took)
	}
	if n := len(hung.Calls()); n != 2 {
		t.Errorf("the hung provider has %d calls, want the 2 of its slots", n)
	}
	if n := len(healthy.Calls()); n != 10 {
		t.Errorf("the healthy provider has %d calls, want 10", n)
	}
	cancel()
	wg.Wait()
}

func TestDeadlines(t *testing.T) {
	release := make(chan struct{})
	p := providertest.New(t, func(ctx context.Context, _ *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		<-release
		return nil, ctx.Err()
	})
	defer close(release)
	d := deliverer(t, func(c *provider.Config) { c.Concurrency, c.Timeout = 1, 400*time.Millisecond }, p.Dir)
	first := make(chan error)
	call, second := allowed(t, objects("db-password")), allowed(t, objects("db-password"))
	go func() { _, err := d.Deliver(t.Context(), call); first <- err }()
	waitFor(t, func() bool { return len(p.Calls()) == 1 })

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Deliver(ctx, second)
	if got := reasonOf(t, err); got != provider.ProviderBusy {
		t.Errorf("Deliver() with every slot taken = %v, want %s", err, provider.ProviderBusy)
	}
	if got := reasonOf(t, <-first); got != provider.ProviderTimeout {
		t.Errorf("Deliver() from a hung provider = %s, want %s", got, provider.ProviderTimeout)
	}
}

// TestSlotsAreGivenBack: failures use up no slot.
func TestSlotsAreGivenBack(t *testing.T) {
	var handlers []providertest.Handler
	for range 4 {
		handlers = append(handlers, providertest.Code("E"))
	}
	p := providertest.New(t, providertest.InTurn(append(handlers, decent())...))
	d := deliverer(t, func(c *provider.Config) { c.Concurrency = 1 }, p.Dir)
	for range handlers {
		if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err == nil {
			t.Error("Deliver() = nil, want the provider's error")
		}
	}
	if _, err := d.Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Errorf("Deliver() after failures = %v", err)
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); {
		if time.Now().After(end) {
			t.Fatal("condition not met within 5 s")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestAkeylessIsAskedOneAtATime: its provider would answer one mount with the
// identity of another.
func TestAkeylessIsAskedOneAtATime(t *testing.T) {
	for name, alone := range map[string]bool{"akeyless": true, "other": false} {
		t.Run(name, func(t *testing.T) {
			var now, highest atomic.Int64
			p := providertest.Start(t, providertest.Config{Name: name, Handler: func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
				defer now.Add(-1)
				if n := now.Add(1); n > highest.Load() {
					highest.Store(n)
				}
				time.Sleep(30 * time.Millisecond)
				return decent()(ctx, r)
			}})
			d := deliverer(t, func(c *provider.Config) { c.Concurrency = 4 }, p.Dir)
			// Decided beforehand, since that takes longer than a call.
			call := allowedOf(t, name, map[string]string{"objects": "- {secretPath: /db, fileName: db, objectName: db}\n"})
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() { _, _ = d.Deliver(t.Context(), call) }) // what becomes of it is not the question
			}
			wg.Wait()
			if got, calls := highest.Load(), len(p.Calls()); (got == 1) != alone || calls != 12 {
				t.Errorf("%d calls, %d at the same time, want 12, one at a time: %v", calls, got, alone)
			}
		})
	}
}

// allowedOther is the fixture's call for the provider "other".
func allowedOther(t *testing.T) provider.Call {
	t.Helper()
	return allowedOf(t, "other", map[string]string{"objects": "- objectName: db-password\n"})
}

// allowedOf is a call that was granted one secret of a provider.
func allowedOf(t *testing.T, name string, parameters map[string]string) provider.Call {
	t.Helper()
	e := effectiveOf(t, name, parameters)
	call := decided(t, strings.ReplaceAll(`
- id: G-3
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: other
  secrets: ["other://default/*"]
`, "other", name), nil, func(in *policies.Input) {
		in.SPC.Provider, in.SPC.ParametersSHA256 = name, e.Digest()
		in.Requests = []policies.Request{{Secret: name + "://default/db-password", File: "db-password"}}
	})
	call.Effective = e
	return call
}
