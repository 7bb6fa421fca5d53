package secretref_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// mutate changes a list as an author, or an attacker, would: by the line.
func mutate(r *rand.Rand, text string) string {
	lines := strings.Split(text, "\n")
	i, j := r.IntN(len(lines)), r.IntN(len(lines))
	switch key, value, ok := strings.Cut(lines[i], ": "); r.IntN(9) {
	case 0, 1:
		if ok {
			lines[i] = key + ": " + scalars()[r.IntN(len(scalars()))]
		}
	case 2:
		lines = slices.Insert(lines, i, lines[j])
	case 3:
		lines = slices.Delete(lines, i, i+1)
	case 4:
		lines[i] = " " + lines[i]
	case 5:
		lines[i] = strings.TrimPrefix(lines[i], " ")
	case 6:
		lines[i], lines[j] = lines[j], lines[i]
	case 7:
		if ok {
			lines[i] = strings.ToUpper(key) + ": " + value
		}
	default:
		lines[i] += [...]string{" # x", " ", ":", "'", "\n", "\\", " |", "/b", "@1"}[r.IntN(9)]
	}
	return strings.Join(lines, "\n")
}

// What providers publish, changed: whatever is read, the provider delivers.
func TestCloudMutatedExamples(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := examples(t)
	for _, c := range clouds() {
		read := 0
		for _, path := range slices.Sorted(maps.Keys(all)) {
			if all[path].Spec.Provider != c.provider {
				continue
			}
			for range 150 {
				parameters := maps.Clone(all[path].Spec.Parameters)
				for range 1 + r.IntN(3) {
					parameters[c.list] = mutate(r, parameters[c.list])
				}
				if diff := c.disagreement(parameters); diff != "" {
					t.Errorf("Read(%q): %s", parameters[c.list], diff)
				}
				if c.read(parameters).Requests[0].ParseError == "" {
					read++
				}
			}
		}
		if read < 120 {
			t.Errorf("%d mutated examples of %s were read, want at least 120", read, c.provider)
		}
	}
}
