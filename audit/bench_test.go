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

// BenchmarkRepeat is what a denial costs that is only counted.
func BenchmarkRepeat(b *testing.B) {
	deny := policiestest.Deny(b)
	r, _ := audittest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		r.Owe(audit.Decided(deny))
	}
}
