package audit_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// BenchmarkRecord is what an event costs besides its disk.
func BenchmarkRecord(b *testing.B) {
	allow := policiestest.Allow(b)
	r, _ := audittest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Record(b.Context(), audit.Decided(allow)); err != nil {
			b.Fatal(err)
		}
	}
}

// dropping is an Inputs that keeps nothing.
type dropping struct{}

func (dropping) Keep(string, []byte) {}
func (dropping) Seen(_, _ string)    {}

// BenchmarkRecordDenial is a denial that is listed, without and with shares and
// kept inputs, and one beyond the share.
func BenchmarkRecordDenial(b *testing.B) {
	for _, bench := range []struct {
		name   string
		limit  int64
		inputs audit.Inputs
	}{
		{"plain", 0, nil}, {"shares", 1 << 50, nil}, {"shares and inputs", 1 << 50, dropping{}}, {"beyond the share", 1, dropping{}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r, l := audittest.New(b, func(c *audit.Config) { c.Inputs = bench.inputs })
			l.Begin(1, bench.limit)
			flood := denialsOf(b, "loud")
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Record(b.Context(), flood.next()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRepeat is what a denial costs that is only counted.
func BenchmarkRepeat(b *testing.B) {
	deny := policiestest.Deny(b)
	r, _ := audittest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		r.Owe(audit.Decided(deny))
	}
}
