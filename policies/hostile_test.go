package policies_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestManyCopiesAreOneWarning: whoever writes classes must not choose how long
// a decision and its event are.
func TestManyCopiesAreOneWarning(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants)
	long := strings.Repeat("a", 1500)
	d := e.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
		in.Requests = copied(policies.MaxSync / policies.MaxSyncPerRequest)
		for i := range in.Requests {
			in.Requests[i].Secret += long
		}
	}))
	if summary(d) != "allow warn PR-030" || len(d.Warn) != 1 {
		t.Fatalf("Decide() = %s with %d warnings, want allow with one PR-030", summary(d), len(d.Warn))
	}
	text, err := json.Marshal(d.Warn)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 1024 || strings.Contains(string(text), long) {
		t.Errorf("warnings take %d bytes, want at most 1024 and no secret id", len(text))
	}
	d = e.Decide(t.Context(), policiestest.Input(request(func(r *policies.Request) { r.Sync = copies(1000) })))
	if summary(d) != "error InvalidInput" || !strings.Contains(d.Cause().Error(), "spec.secretObjects") {
		t.Errorf("Decide(1000 copies) = %s (%v), want error InvalidInput about spec.secretObjects", summary(d), d.Cause())
	}
}

// TestOneCallStaysSmall: a large number as an argument does not make a built-in
// take memory or time that the budget cannot take back.
func TestOneCallStaysSmall(t *testing.T) {
	for _, call := range []string{
		`sprintf("%999999999d", [1])`, `sprintf("%*d", [999999999, 1])`, `sprintf("%.999999999f", [1.5])`, `sprintf("%d", [1e308])`,
		`substring("abc", 0, 99999999999)`, `array.slice([1, 2], -5, 99999999999999)`, `strings.split_n("a,b", ",", 99999999999)`,
		`format_int(1e308, 2)`, `bits.rsh(1, 100000000000)`, `bits.negate(1e308)`, `round(1e308)`, `sum([1e308, 1e308])`,
		`to_number("1e999999999")`, `json.unmarshal("1e999999999")`, `units.parse_bytes("1e999999999")`, `units.parse("1e308Ei")`,
		`time.add_date(input.now_ns, 99999999999, 9999999999, 99999999)`, `regex.match("((a{1,1000}){1,1000}){1,1000}", "a")`,
	} {
		t.Run(call, func(t *testing.T) {
			check := checkOf("deny contains {\"id\": \"PR-300\", \"severity\": \"low\", \"message\": \"m\"} if is_null(" + call + ")")
			e := policiestest.Engine(t, policiestest.Grants, policiestest.WithCheck("odd", check))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			e.Decide(t.Context(), policiestest.Input())
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 || took > 10*time.Second {
				t.Errorf("%s takes %d bytes and %s, want at most 16 MiB", call, n, took)
			}
		})
	}
}

// grantsOf returns n grants of one secret to one subject, which end on a day.
func grantsOf(n int, expiry string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.NewReplacer("G-1", fmt.Sprintf("G-%d", i), "2126-12-31", expiry).Replace(policiestest.Grants))
	}
	return b.String()
}

// TestManyGrantsOfOneKey: as many as may be are judged within the budget, and
// when all of them end that is a denial that names a few, not an error: only a
// denial revokes.
func TestManyGrantsOfOneKey(t *testing.T) {
	for expiry, want := range map[string]string{"2126-12-31": "allow", "2026-01-14": "deny PR-001"} {
		e := policiestest.Engine(t, grantsOf(64, expiry))
		if d := e.Decide(t.Context(), policiestest.Input()); summary(d) != want {
			t.Errorf("Decide() with 64 grants until %s = %s (%v), want %s", expiry, summary(d), d.Cause(), want)
		}
	}
	b, err := bundle.LoadFS(policiestest.Files(grantsOf(65, "2126-12-31")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policies.Compile(t.Context(), b, options()); err == nil || !strings.Contains(err.Error(), "more than 64") {
		t.Errorf("Compile(65 grants of one key) = %v, want a refusal", err)
	}
}
