package driver_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
)

const mib = 1 << 20

func TestBudget(t *testing.T) {
	b := driver.NewBudget(16 * mib)
	// take reserves and settles at once, as a delivery does.
	take := func(pod, namespace string, bytes int64, want string) {
		t.Helper()
		err := b.Reserve(t.Context(), pod, namespace, bytes)
		switch {
		case want == "" && err != nil:
			t.Errorf("Reserve(%s, %d) = %v, want nil", pod, bytes, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("Reserve(%s, %d) = %v, want an error with %q", pod, bytes, err, want)
		}
		if err == nil {
			b.Settle(pod, namespace, bytes)
		}
	}
	take("p1", "a", 3*mib, "")
	take("p1", "a", 3*mib, "")
	if got := b.InUse(); got != 3*mib {
		t.Errorf("InUse() = %d, want %d", got, 3*mib)
	}
	take("p2", "a", 2*mib, "namespace a")
	take("p2", "a", mib, "")
	for _, ns := range []string{"b", "c", "d"} {
		take("p-"+ns, ns, 4*mib, "")
	}
	take("p9", "e", 1, "this node")
	b.Settle("p-b", "b", mib)
	take("p9", "e", 3*mib, "")
	for _, p := range []string{"p1", "p2", "p-b", "p-c", "p-d", "p9", "never"} {
		b.Release(p)
	}
	if got := b.InUse(); got != 0 {
		t.Errorf("InUse() after releasing all = %d, want 0", got)
	}
	take("p1", "a", 4*mib, "")
}

func TestBudgetSettlesBeyondTheLimit(t *testing.T) {
	// What is mounted is mounted: a smaller limit after a restart refuses new
	// volumes and takes none away.
	b := driver.NewBudget(8)
	b.Settle("p1", "a", 100)
	if got := b.InUse(); got != 100 {
		t.Errorf("InUse() = %d, want 100", got)
	}
	if err := b.Reserve(t.Context(), "p2", "b", 1); err == nil {
		t.Error("Reserve() over a full budget = nil, want an error")
	}
}

func TestBudgetWaitsForDeliveriesThatReservedTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := driver.NewBudget(8 * mib) // two for a namespace
		if err := b.Reserve(t.Context(), "p1", "a", 2*mib); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- b.Reserve(t.Context(), "p2", "a", 2*mib-8192) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Reserve() = %v beside a delivery in progress, want it to wait", err)
		default:
		}
		b.Settle("p1", "a", 8192)
		if err := <-done; err != nil {
			t.Errorf("Reserve() after the other settled = %v, want nil", err)
		}
	})
}

func TestBudgetStopsWaitingWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := driver.NewBudget(8 * mib)
		if err := b.Reserve(t.Context(), "p1", "a", 2*mib); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Reserve(ctx, "p2", "a", mib); err == nil || !strings.Contains(err.Error(), "namespace a") {
			t.Errorf("Reserve() = %v, want the budget error once the context ends", err)
		}
	})
}

func TestBudgetExtendsAMountedVolumeAsFarAsThereIsRoom(t *testing.T) {
	b := driver.NewBudget(16 * mib)
	b.Settle("p1", "a", mib)
	b.Settle("p2", "a", 2*mib)
	if got := b.Extend("p1", "a", 2*mib); got != 2*mib {
		t.Errorf("Extend() = %d, want %d", got, 2*mib)
	}
	if got := b.Extend("p2", "a", 4*mib); got != 2*mib {
		t.Errorf("Extend() in a full namespace = %d, want the %d it has", got, 2*mib)
	}
	b.Settle("p1", "a", mib)
	if got := b.Extend("p2", "a", 4*mib); got != 3*mib {
		t.Errorf("Extend() with one free = %d, want %d", got, 3*mib)
	}
}
