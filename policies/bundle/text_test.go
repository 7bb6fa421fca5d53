// The race detector sees nothing in twenty thousand texts, one after the other, and
// takes some twenty times as long.

//go:build !race

package bundle_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// TestTextIsReadAsItsPatternSays: the reader counts what the pattern, which the
// schemas show, would take too long to count.
func TestTextIsReadAsItsPatternSays(t *testing.T) {
	pattern, a := regexp.MustCompile(bundle.FormOf("text")), newAuthor(11)
	taken, refused := 0, 0
	for range 20_000 {
		var text strings.Builder
		for range a.IntN(3) {
			text.WriteString(strings.Repeat(a.some("a", "ä", "日", "\U0001f511"), []int{1, 2, 498, 499, 500, 501, 999, 1000}[a.IntN(8)]))
			if r := rune(a.IntN(0x3000)); a.IntN(3) == 0 {
				text.WriteRune(r)
			}
		}
		if a.IntN(50) == 0 {
			text.WriteString(a.some("\xff", "\U000e0041", "\x7f", "\u00ad"))
		}
		_, err := bundle.IndexGrants([]bundle.Grant{{
			ID: "G-1", Owner: text.String(), Expiry: "2126-12-31", Namespaces: []string{"a"}, ServiceAccounts: []string{"a"},
			Provider: "local", Secrets: []string{"local://node/a"},
		}}, nil)
		if good := pattern.MatchString(text.String()); good != (err == nil) {
			t.Fatalf("the reader says %v of %q, and the pattern %v", err, text.String(), good)
		}
		if err == nil {
			taken++
		} else {
			refused++
		}
	}
	if taken < 5000 || refused < 5000 {
		t.Errorf("%d taken and %d refused, want at least 5000 of each: the test shows little", taken, refused)
	}
}
