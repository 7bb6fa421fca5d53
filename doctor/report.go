package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Status is the outcome of a check.
type Status string

// The statuses.
const (
	OK   Status = "OK"
	Warn Status = "WARN" // works, with less than there could be; or nobody knows
	Fail Status = "FAIL" // does not work, or not as promised
	NA   Status = "n/a"  // the part is not installed
)

// Bounds of what is printed: names and texts come from outside.
const (
	maxText     = 400
	maxPerCheck = 20
	sep         = "; hint: "
)

// Result is what one check found about one thing.
type Result struct {
	Check   string `json:"check"` // the id
	Status  Status `json:"status"`
	Finding string `json:"finding"`
	Hint    string `json:"hint,omitempty"`
}

// Part says whether a part was looked at.
type Part struct {
	Name   Area   `json:"name"`
	Looked bool   `json:"looked"`
	Detail string `json:"detail"` // what was looked at, or why it was not
}

// Report is what doctor found.
type Report struct {
	Parts   []Part   `json:"parts"`
	Results []Result `json:"results"`
}

// Count returns how many results have a status.
func (r Report) Count(s Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// Healthy reports whether nothing failed; strict counts warnings as failures.
func (r Report) Healthy(strict bool) bool {
	return r.Count(Fail) == 0 && (!strict || r.Count(Warn) == 0)
}

// Looked reports whether anything was looked at.
func (r Report) Looked() bool {
	for _, p := range r.Parts {
		if p.Looked {
			return true
		}
	}
	return false
}

// WriteText writes a line for each part and each result, and one of numbers.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, p := range r.Parts {
		if p.Looked {
			fmt.Fprintf(&b, "%s: %s\n", p.Name, p.Detail)
			continue
		}
		fmt.Fprintf(&b, "%s: n/a, not looked at: %s\n", p.Name, p.Detail)
	}
	for _, result := range r.Results {
		fmt.Fprintf(&b, "%-4s  %-27s  %s", result.Status, result.Check, result.Finding)
		if result.Hint != "" {
			b.WriteString(sep + result.Hint)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d OK, %d WARN, %d FAIL, %d n/a\n", r.Count(OK), r.Count(Warn), r.Count(Fail), r.Count(NA))
	_, err := io.WriteString(w, b.String())
	return err
}

// ok, warn, fail and na are results without the id, which Run adds.
func ok(format string, args ...any) Result {
	return Result{Status: OK, Finding: fmt.Sprintf(format, args...)}
}

func na(format string, args ...any) Result {
	return Result{Status: NA, Finding: fmt.Sprintf(format, args...)}
}

func warn(hint, format string, args ...any) Result {
	return Result{Status: Warn, Finding: fmt.Sprintf(format, args...), Hint: hint}
}

func fail(hint, format string, args ...any) Result {
	return Result{Status: Fail, Finding: fmt.Sprintf(format, args...), Hint: hint}
}

// unknown is the result of what could not be looked at. An error of ours has its
// own hint.
func unknown(what string, err error) Result {
	text, hint, found := strings.Cut(err.Error(), sep)
	if !found {
		hint = "run doctor where and as whom this can be read"
	}
	return warn(hint, "%s could not be looked at: %s", what, text)
}

// refused is the result of something that answered with an error, with the hint
// of the error where it has one.
func refused(hint, what string, err error) Result {
	text, own, found := strings.Cut(err.Error(), sep)
	if found {
		hint = own
	}
	return Result{Status: Fail, Finding: what + ": " + text, Hint: hint}
}

// Printable bounds a text from outside and writes what is no printable ASCII as
// a question mark: a terminal would obey escape sequences.
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= maxText {
			b.WriteString("...")
			break
		}
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case r < ' ' || r > '~' || r == utf8.RuneError:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// some lists names, the first few of them.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
