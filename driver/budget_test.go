package driver_test

import (
	"math"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/driver"
)

const mib = 1 << 20

func TestBudget(t *testing.T) {
	b := driver.NewBudget(16*mib, 4*mib)
	take := func(pod, namespace string, bytes int64, want string) {
		t.Helper()
		err := b.Reserve(pod, namespace, bytes)
		switch {
		case want == "" && err != nil:
			t.Errorf("Reserve(%s, %d) = %v, want nil", pod, bytes, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("Reserve(%s, %d) = %v, want an error with %q", pod, bytes, err, want)
		}
	}
	take("p1", "a", 3*mib, "")
	take("p1", "a", 3*mib, "")
	take("p1", "a", mib, "") // it never takes any away
	if got := b.InUse(); got != 3*mib {
		t.Errorf("InUse() = %d, want %d", got, 3*mib)
	}
	take("p2", "a", 2*mib, "namespace a")
	take("p2", "a", mib, "")
	take("p3", "b", 5*mib, "one volume")
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

func TestBudgetAdmitsWithoutTaking(t *testing.T) {
	b := driver.NewBudget(16*mib, 2*mib)
	for range 100 { // a hundred pods whose provider hangs
		if err := b.Admit("p", "a"); err != nil {
			t.Fatalf("Admit() = %v, want nil", err)
		}
	}
	if err := b.Reserve("p1", "a", 2*mib); err != nil {
		t.Fatal(err)
	}
	if err := b.Reserve("p2", "a", mib); err != nil {
		t.Fatal(err)
	}
	if err := b.Admit("p3", "a"); err == nil || !strings.Contains(err.Error(), "namespace a") {
		t.Errorf("Admit() with 1 MiB left = %v, want a refusal: the volume might need 2", err)
	}
	if err := b.Admit("p2", "a"); err != nil {
		t.Errorf("Admit() of a volume with a share = %v, want nil", err)
	}
}

func TestBudgetSettlesBeyondTheLimit(t *testing.T) {
	// What is mounted is mounted: a smaller limit after a restart refuses new
	// volumes and takes none away.
	b := driver.NewBudget(8, 100)
	b.Settle("p1", "a", 100)
	if got := b.InUse(); got != 100 {
		t.Errorf("InUse() = %d, want 100", got)
	}
	if err := b.Reserve("p2", "b", 1); err == nil {
		t.Error("Reserve() over a full budget = nil, want an error")
	}
}

func TestBudgetBelievesNoSizeBeyondTheLargest(t *testing.T) {
	for _, size := range []int64{0, -1, 100 << 30, math.MaxInt64} {
		b := driver.NewBudget(128*mib, 2*mib)
		b.Settle("p1", "a", size)
		b.Settle("p2", "a", size)
		if got := b.InUse(); got != 4*mib {
			t.Errorf("InUse() with two volumes remounted to size=%d = %d, want %d", size, got, 4*mib)
		}
	}
}

func TestBudgetErrorsHaveConstantTexts(t *testing.T) {
	b := driver.NewBudget(4*mib, mib)
	if err := b.Reserve("p1", "a", mib); err != nil {
		t.Fatal(err)
	}
	first := b.Reserve("p2", "a", mib)
	second := b.Reserve("p3", "a", mib/2)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("texts = %q and %q, want equal ones: kubelet counts equal texts as one event", first, second)
	}
}

// A start without volumes.db knows what volumes hold and not whose they are.
func TestBudgetAttributesWhatItHolds(t *testing.T) {
	b := driver.NewBudget(16*mib, 4*mib)
	b.Settle("p1", "", 3*mib)
	b.Own("p1", "a")
	b.Own("never", "a")
	if err := b.Reserve("p2", "a", 2*mib); err == nil {
		t.Error("Reserve() beside the namespace's own volume = nil, want an error")
	}
	if err := b.Reserve("p2", "b", 2*mib); err != nil {
		t.Errorf("Reserve() for another namespace = %v, want nil", err)
	}
	b.Release("p1")
	if got := b.InUse(); got != 2*mib {
		t.Errorf("InUse() = %d, want %d", got, 2*mib)
	}
}
