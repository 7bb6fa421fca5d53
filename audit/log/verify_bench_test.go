package log_test

import (
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// BenchmarkVerifyEpochs verifies a log of four epochs, by the event.
func BenchmarkVerifyEpochs(b *testing.B) {
	p := newPen(b, origin)
	const epochs, events = 4, 5000
	dir := written(b, chained(b, p, epochs, events)...)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r, err := auditlog.Verify(b.Context(), auditlog.VerifyConfig{Path: dir, VKey: p.vkey})
		if err != nil {
			b.Fatal(err)
		}
		n += int(r.Events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
