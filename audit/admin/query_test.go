package admin_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/audit/admin"
)

func FuzzParseSpan(f *testing.F) {
	for _, raw := range []string{"", "epoch=1&index=2&count=3", "epoch=01", "epoch=1;index=2", "count=%31", "epoch=%zz", "index=1", "epoch=9223372036854775807"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		from, count, err := admin.ParseSpan(raw)
		if err != nil {
			if from != (admin.Position{}) || count != 0 {
				t.Errorf("ParseSpan(%q) = %v, %d with error %v, want zero", raw, from, count, err)
			}
			return
		}
		if from.Epoch < 0 || from.Index < 0 || count < 0 || from.Epoch == 0 && from.Index != 0 {
			t.Errorf("ParseSpan(%q) = %v, %d, which is no place", raw, from, count)
		}
		again, n, err := admin.ParseSpan(admin.Query(from, count))
		if err != nil || again != from || n != count {
			t.Errorf("ParseSpan(Query(%v, %d)) = %v, %d, %v, want the same", from, count, again, n, err)
		}
	})
}
