package testrun

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Printable returns text from outside as a terminal may have it: whatever could
// move a cursor or hide what follows is written as an escape.
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// Text returns the report for people: failures first, all tests if verbose.
func (r Report) Text(verbose bool) string {
	var b strings.Builder
	for _, t := range r.Tests {
		if t.Outcome == Failed {
			t.text(&b)
		}
	}
	for _, t := range r.Tests {
		if verbose && t.Outcome != Failed {
			t.text(&b)
		}
	}
	if verbose {
		for _, g := range r.Gaps {
			fmt.Fprintf(&b, "not covered  %s\n", g)
		}
	}
	var took time.Duration
	for _, t := range r.Tests {
		took += t.Duration
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped in %s; tests evaluate %.1f %% of the lines of the checks\n",
		r.Passed, r.Failed, r.Skipped, took.Round(time.Millisecond), r.Coverage)
	return b.String()
}

// String names the place.
func (g Gap) String() string {
	if g.To == g.From {
		return fmt.Sprintf("%s:%d", Printable(g.File), g.From)
	}
	return fmt.Sprintf("%s:%d-%d", Printable(g.File), g.From, g.To)
}

func (t Test) text(b *strings.Builder) {
	fmt.Fprintf(b, "%-4s %s:%d %s\n", t.Outcome, Printable(t.File), t.Line, Printable(t.Name))
	for _, line := range t.Problems {
		fmt.Fprintf(b, "     %s\n", Printable(line))
	}
	for _, line := range t.Notes {
		fmt.Fprintf(b, "     note: %s\n", Printable(line))
	}
	for _, line := range t.Trace {
		fmt.Fprintf(b, "     undefined or false: %s\n", Printable(line))
	}
	for line := range strings.Lines(t.Output) {
		fmt.Fprintf(b, "     print: %s\n", Printable(strings.TrimSuffix(line, "\n")))
	}
}

// JUnit returns the report in the form that CI systems read.
func (r Report) JUnit() ([]byte, error) {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testCase struct {
		Class   string    `xml:"classname,attr"`
		Name    string    `xml:"name,attr"`
		File    string    `xml:"file,attr"`
		Line    int       `xml:"line,attr"`
		Time    string    `xml:"time,attr"`
		Failure *failure  `xml:"failure,omitempty"`
		Skipped *struct{} `xml:"skipped,omitempty"`
	}
	suite := struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testCase `xml:"testcase"`
	}{Name: "portcullis policy test", Tests: len(r.Tests), Failures: r.Failed, Skipped: r.Skipped}
	for _, t := range r.Tests {
		c := testCase{Class: Printable(t.File), Name: Printable(t.Name), File: Printable(t.File), Line: t.Line, Time: fmt.Sprintf("%.6f", t.Duration.Seconds())}
		switch t.Outcome {
		case Failed:
			var b strings.Builder
			t.text(&b)
			c.Failure = &failure{Message: Printable(strings.Join(t.Problems, "; ")), Text: b.String()}
		case Skipped:
			c.Skipped = &struct{}{}
		default:
		}
		suite.Cases = append(suite.Cases, c)
	}
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode JUnit report: %w", err)
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}
