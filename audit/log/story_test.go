package log_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func TestVerifyReportsMissingParts(t *testing.T) {
	part := func(id, first string, n, of int) []byte {
		return event(id, "2026-01-15T12:00:00Z", fmt.Sprintf(`,"part":{"first":%q,"number":%d,"of":%d}`, first, n, of))
	}
	tests := []struct {
		name   string
		leaves [][]byte
		want   []auditlog.Incomplete
	}{
		{"all there, with others in between", [][]byte{
			part("a", "a", 1, 2), part("b", "b", 1, 3), part("c", "b", 2, 3), part("d", "a", 2, 2), part("e", "b", 3, 3),
		}, nil},
		{"the last ones missing", [][]byte{part("a", "a", 1, 67), part("b", "a", 2, 67)}, []auditlog.Incomplete{{At: auditlog.Position{Epoch: 1, Index: 1}, ID: "a", Have: 2, Of: 67}}},
		{"the first missing", [][]byte{event("x", "2026-01-15T12:00:00Z", ""), part("b", "a", 2, 2)}, []auditlog.Incomplete{{At: auditlog.Position{Epoch: 1, Index: 2}, ID: "a", Have: 0, Of: 2}}},
		{"one in the middle missing", [][]byte{part("a", "a", 1, 3), part("b", "a", 3, 3)}, []auditlog.Incomplete{{At: auditlog.Position{Epoch: 1, Index: 1}, ID: "a", Have: 1, Of: 3}}},
		{"two", [][]byte{part("a", "a", 1, 2), part("b", "b", 1, 2)}, []auditlog.Incomplete{{At: auditlog.Position{Epoch: 1, Index: 1}, ID: "a", Have: 1, Of: 2}, {At: auditlog.Position{Epoch: 1, Index: 2}, ID: "b", Have: 1, Of: 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			for _, text := range tt.leaves {
				if _, err := l.Append(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			closeLog(t, l)
			if diff := cmp.Diff(tt.want, verified(t, c.Dir).Incomplete); diff != "" {
				t.Errorf("Verify().Incomplete mismatch (-want +got):\n%s", diff)
			}
		})
	}
}
