package secretref_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// mutant changes a text in a few places, at random but always alike.
func mutant(r *rand.Rand, text string, words []string) string {
	const alphabet = "-:{}[]\"'#&*!|>%@,\n ab/.~0y?\\="
	for range 1 + r.IntN(3) {
		at, lines := r.IntN(len(text)+1), strings.SplitAfter(text, "\n")
		switch r.IntN(6) {
		case 0:
			text = text[:at] + text[min(at+1+r.IntN(3), len(text)):]
		case 1:
			text = text[:at] + string(alphabet[r.IntN(len(alphabet))]) + text[at:]
		case 2:
			text = text[:at] + string(alphabet[r.IntN(len(alphabet))]) + text[min(at+1, len(text)):]
		case 3:
			text += lines[r.IntN(len(lines))]
		case 4:
			i, j := r.IntN(len(lines)), r.IntN(len(lines))
			lines[i], lines[j] = lines[j], lines[i]
			text = strings.Join(lines, "")
		default:
			text = text[:at] + words[r.IntN(len(words))] + text[at:]
		}
	}
	return text
}

// TestMutatedExamples: whatever becomes of a published class, what is read is
// what its provider would fetch, or nothing.
func TestMutatedExamples(t *testing.T) {
	check := map[string]func(secretref.Params) string{"akeyless": akeylessDisagreement, "conjur": conjurDisagreement}
	words, read, tried := append(scalars(), "other:variable:x", ",", "/../", "443", "/"), map[string]int{}, 0
	all := examples(t)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		e := all[path]
		disagreement, ok := check[e.Spec.Provider]
		if !ok {
			continue
		}
		r := rand.New(rand.NewPCG(1, uint64(len(path))))
		names := slices.Sorted(maps.Keys(e.Spec.Parameters))
		for range 400 {
			p := e.params()
			p.Parameters, p.PodAnnotations = maps.Clone(p.Parameters), maps.Clone(p.PodAnnotations)
			name := names[r.IntN(len(names))]
			if list := p.PodAnnotations["conjur.org/secrets"]; list != "" && r.IntN(2) == 0 {
				p.PodAnnotations["conjur.org/secrets"] = mutant(r, list, words)
			} else {
				p.Parameters[name] = mutant(r, p.Parameters[name], words)
			}
			if diff := disagreement(p); diff != "" {
				t.Fatalf("Read(%q, %q) of a mutated %s: %s", p.Parameters, p.PodAnnotations, path, diff)
			}
			got := secretref.For(p.Provider).Read(p).Requests
			checkInvariants(t, p.Provider, got)
			if tried++; got[0].ParseError == "" {
				read[p.Provider]++
			}
		}
	}
	for provider := range check {
		if read[provider] < 300 {
			t.Errorf("%d of %d mutated examples of %s were read, want at least 300", read[provider], tried, provider)
		}
	}
}
