package policies_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// nested writes n of something around a text.
func nested(n int, open func(i int) string, inner, shut string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(open(i))
	}
	return b.String() + inner + strings.Repeat(shut, n)
}

func always(text string) func(int) string { return func(int) string { return text } }

// nestings are expressions that nest n levels.
func nestings() map[string]func(n int) string {
	return map[string]func(n int) string{
		"comprehensions in bodies": func(n int) string {
			return "count(" + nested(n, func(i int) string { return fmt.Sprintf("[x%d | x%d := input.pod.containers[_]; ", i, i) }, "true", "] == []") + ") > 0"
		},
		"comprehensions in heads": func(n int) string { return "count(" + nested(n, always("["), "1", " | true]") + ") > 0" },
		"sets in heads":           func(n int) string { return "count(" + nested(n, always("{"), "1", " | true}") + ") > 0" },
		"objects in heads":        func(n int) string { return "count(" + nested(n, always(`{"a": `), "1", " | true}") + ") > 0" },
		"every": func(n int) string {
			return nested(n, func(i int) string { return fmt.Sprintf("every x%d in [1] { x%d == 1; ", i, i) }, "true", " }")
		},
	}
}

// TestNestingThatTakesForEver: thirty comprehensions in each other would keep the
// process that loads them busy until it is killed, and again at its next start. They
// are refused at once, with a place and a remedy; what people write is not.
func TestNestingThatTakesForEver(t *testing.T) {
	const most = 5
	for name, of := range nestings() {
		t.Run(name, func(t *testing.T) {
			b := valid()
			rules("deny contains {} if {\n\t" + of(most) + "\n}\n")(&b)
			if _, err := policies.Compile(t.Context(), b, options()); err != nil && strings.Contains(err.Error(), "nests more than") {
				t.Errorf("Compile() of %d levels = %v, want no refusal of that many", most, err)
			}
			for _, n := range []int{most + 1, 30, 3000} {
				rules("deny contains {} if {\n\t" + of(n) + "\n}\n")(&b)
				refusedSoon(t, b, "nests more than 5 comprehensions")
			}
		})
	}
}

// refusedSoon compiles what would not compile in an hour.
func refusedSoon(t *testing.T, b policies.Bundle, want string) {
	t.Helper()
	began := time.Now()
	_, err := policies.Compile(t.Context(), b, options())
	refused, ok := errors.AsType[*policies.BundleError](err)
	if !ok || refused.Problem != want || !strings.HasPrefix(refused.Part, oddPath+":") || refused.Remedy == "" {
		t.Errorf("Compile() = %.300v, want %q with a place and a remedy", err, want)
	}
	x := policies.Examine(b, options())
	if len(x.Problems) != 1 || !strings.Contains(x.Problems[0].Text, want) || x.Problems[0].File != oddPath || x.Problems[0].Row == 0 {
		t.Errorf("Examine() = %.300v, want %q alone, with its place", x.Problems, want)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("refusing it took %s", took)
	}
}

// TestDepthThatTakesMemory: a few kilobytes of brackets would take a gigabyte.
func TestDepthThatTakesMemory(t *testing.T) {
	for name, of := range map[string]func(n int) string{
		"sets":   func(n int) string { return nested(n, always("{"), "1", "}") + " != 1" },
		"arrays": func(n int) string { return nested(n, always("["), "1", "]") + " != 1" },
		"values": func(n int) string { return nested(n, always(`{"a": `), "1", "}") + " != 1" },
		"calls":  func(n int) string { return nested(n, always("abs("), "1", ")") + " == 1" },
		"sums":   func(n int) string { return strings.Repeat("1+", n) + "1 == 1" },
	} {
		t.Run(name, func(t *testing.T) {
			b := valid()
			for _, n := range []int{100, 3000, 30000} {
				if name == "calls" && n == 30000 {
					continue // OPA's own parser refuses that many
				}
				rules("deny contains {} if {\n\t" + of(n) + "\n}\n")(&b)
				refusedSoon(t, b, "nests terms deeper than 64 levels")
			}
			// Twenty summands are a lot, and are somebody's policy.
			rules("deny contains {} if {\n\t" + of(20) + "\n}\n")(&b)
			if _, err := policies.Compile(t.Context(), b, options()); err != nil && strings.Contains(err.Error(), "nests") {
				t.Errorf("Compile() of 20 levels = %v, want no refusal of that", err)
			}
		})
	}
}

// TestCompileSurvivesAPanic: whatever a library does with what was signed, unmounting
// goes on.
func TestCompileSurvivesAPanic(t *testing.T) {
	o := options()
	o.Clock = func() time.Time { panic("out of range") }
	e, err := policies.Compile(t.Context(), valid(), o)
	if _, ok := errors.AsType[*policies.BundleError](err); !ok || e != nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("Compile() = %v, %v, want a refusal that says what panicked", e, err)
	}
}

// TestErrorsOfTheCompilerAreBounded: the type in one doubles with each line, and the
// error goes into the log and into readiness.
func TestErrorsOfTheCompilerAreBounded(t *testing.T) {
	lines := "\ta0 := input.pod.containers\n"
	for i := 1; i <= 9; i++ {
		lines += fmt.Sprintf("\ta%d := {\"x\": a%d, \"y\": a%d}\n", i, i-1, i-1)
	}
	b := valid()
	rules("deny contains {} if {\n" + lines + "\ta9 == 5\n}\n")(&b)
	_, err := policies.Compile(t.Context(), b, options())
	if err == nil || len(err.Error()) > 10_000 || !strings.Contains(err.Error(), "; hint: ") {
		t.Errorf("Compile() = an error of %d bytes, want one that can be read", len(fmt.Sprint(err)))
	}
}
