package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// errAnswerIsNo ends a command that did its work and whose answer is no: a
// denial, a failed test, a finding, a changed decision. It prints nothing itself.
var errAnswerIsNo = errors.New("the answer is no")

// answerIsNoCode keeps a pipeline from taking a failure for an answer.
const answerIsNoCode = 3

// The forms of output.
const (
	outputText = "text"
	outputJSON = "json"
)

// output is where and in which form a command answers.
type output struct {
	form string
	out  io.Writer
}

// addOutput gives a command the flag --output.
func addOutput(cmd *cobra.Command, o *output) {
	cmd.Flags().StringVarP(&o.form, "output", "o", outputText, "text for people, json for machines")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputText, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		o.out = cmd.OutOrStdout()
		if o.form != outputText && o.form != outputJSON {
			return &usageError{fmt.Errorf("--output %q is neither %s nor %s", o.form, outputText, outputJSON)}
		}
		return nil
	}
}

// print writes a value as indented JSON, or what text writes for people.
func (o output) print(value any, text func(io.Writer)) error {
	return o.printFallibly(value, func(w io.Writer) error {
		text(w)
		return nil
	})
}

// printFallibly is print for a text that may fail.
func (o output) printFallibly(value any, text func(io.Writer) error) error {
	if o.form != outputJSON {
		return text(o.out)
	}
	e := json.NewEncoder(o.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// progress says every two seconds how far long work is, and of how much where that
// is known.
type progress struct {
	w    io.Writer
	what string
	last time.Time
}

func newProgress(w io.Writer, what string) *progress {
	return &progress{w: w, what: what, last: time.Now()}
}

func (p *progress) at(done, total int64) {
	if time.Since(p.last) < progressEvery {
		return
	}
	p.last = time.Now()
	if total <= 0 {
		fmt.Fprintf(p.w, "%s %d\n", p.what, done)
		return
	}
	fmt.Fprintf(p.w, "%s %d of %d\n", p.what, done, total)
}
