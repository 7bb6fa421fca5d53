package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies"
)

// openedPolicy is a bundle that decides on the command line, and nowhere else.
type openedPolicy struct {
	bundle policies.Bundle
	engine *policies.Engine
}

// bundleRef names a bundle in output for machines.
type bundleRef struct {
	Digest   string `json:"digest"`
	Serial   int64  `json:"serial"`
	Revision string `json:"revision,omitempty"`
}

func (p openedPolicy) ref() bundleRef {
	return bundleRef{p.engine.Digest(), p.engine.Manifest().Serial, p.engine.Manifest().Revision}
}

// openPolicy reads and compiles a bundle, at a time that is not the clock's where
// somebody asks what will be.
func openPolicy(ctx context.Context, flag, path string, now time.Time) (openedPolicy, error) {
	if path == "" {
		return openedPolicy{}, &usageError{fmt.Errorf("--%s is missing", flag)}
	}
	b, err := openBundle(ctx, path)
	if err != nil {
		return openedPolicy{}, withHint(fmt.Errorf("--%s %q: %w", flag, path, err))
	}
	e, err := policies.Compile(ctx, b, policies.Options{Budget: cliBudget, Clock: func() time.Time { return now }})
	if err != nil {
		return openedPolicy{}, withHint(fmt.Errorf("--%s %q: %w", flag, path, err))
	}
	return openedPolicy{b, e}, nil
}

// cliBudget is for a laptop that does other work meanwhile. Budgets are never part
// of a decision.
const cliBudget = 10 * time.Second

// withHint splits the hint off an error, and escapes what came from files.
func withHint(err error) error {
	text, hint, found := splitHint(err.Error())
	if !found {
		return &cleanError{err}
	}
	return &hintedError{errors.New(visible(text)), visible(hint)}
}

// cleanError is an error whose text repeats what came from files.
type cleanError struct{ err error }

// Error escapes what a terminal could take for a command.
func (e *cleanError) Error() string { return visible(e.err.Error()) }

// Unwrap returns the error.
func (e *cleanError) Unwrap() error { return e.err }

// visible escapes what a terminal could take for a command, or a reader for other
// text than is there: controls, and what turns text around. Lines stay lines.
func visible(s string) string {
	clean := func(r rune) bool { return r == '\n' || r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// nowFlag is a time that somebody gives, or the clock's.
type nowFlag struct{ text string }

func (n *nowFlag) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&n.text, "now", "", usage)
}

// given returns the time of the flag, the zero time without one.
func (n *nowFlag) given() (time.Time, error) {
	if n.text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, n.text); err == nil && t.Year() >= 2000 && t.Year() <= 2200 {
			return t, nil
		}
	}
	return time.Time{}, &usageError{fmt.Errorf("--now %q is neither a time such as 2026-01-15T12:00:00Z nor a date", n.text)}
}

// orClock returns the time of the flag, else the present.
func (n *nowFlag) orClock() (time.Time, error) {
	t, err := n.given()
	if err == nil && t.IsZero() {
		return time.Now(), nil
	}
	return t, err
}

// completeBundle completes names of directories and of built bundles.
func completeBundle(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		_ = cmd.MarkFlagFilename(flag, "tar.gz", "tgz")
	}
}
