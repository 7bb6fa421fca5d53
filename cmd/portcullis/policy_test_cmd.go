package main

import (
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// policyTestOptions are the flags of portcullis policy test.
type policyTestOptions struct {
	testrun.Config
	run      string
	now      string
	coverage float64
	verbose  bool
	junit    string
	input    bool
	output   output
}

func policyTestCommand() *cobra.Command {
	var o policyTestOptions
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the tests of a policy bundle",
		Long: `test runs what proves that a bundle does what its author means:

  * Rego tests, rules test_... in portcullis/checks/<name>/<name>_test.rego, with
    the library and the schema of the input, and without the bundle's settings
  * fixtures, tests/*.yaml beside portcullis/: an input, and the decision that the
    whole bundle is expected to make of it, at every gate

Each is evaluated with and without OPA's rule index, and a difference is a
failure. An input is a patch of the default input, which --show-input prints, or
comes from Kubernetes manifests:

  - name: a pod without fsGroup is refused
    input: {pod: {fsGroup: null}, volume: {volumeMountGroup: null}}
    expect: {verdict: deny, deny: [PR-210]}
  - name: the grant is over on the day after
    now: 2027-01-01T00:00:00Z
    expect: {verdict: deny, deny: [PR-001]}

  portcullis policy test ./policy
  portcullis policy test --run fsGroup --verbose ./policy
  portcullis policy test --coverage 90 --junit report.xml ./policy

Exit code 0: all tests passed. 3: a test failed, there is none, or the coverage is
below --coverage. 1: the tests could not be run. 2: wrong usage.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Directory = bundleArgument(args)
			return policyTestMain(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.run, "run", "", "run only tests whose name matches this regular expression")
	f.Float64Var(&o.coverage, "coverage", 0, "percentage of the lines of the checks that tests have to evaluate")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "list every test, and the lines that no test evaluates")
	f.DurationVar(&o.Timeout, "timeout", testrun.DefaultTimeout, "how long one test may take")
	f.StringVar(&o.now, "now", "", "time of fixtures that do not say one, such as 2026-12-31T23:59:59Z (default: the present)")
	f.StringVar(&o.junit, "junit", "", "write a report for CI systems to this file too")
	f.BoolVar(&o.input, "show-input", false, "print the default input of fixtures, and run nothing")
	addOutput(cmd, &o.output)
	return cmd
}

func policyTestMain(cmd *cobra.Command, o policyTestOptions) error {
	if o.input {
		_, err := o.output.out.Write(testrun.DefaultInput())
		return err
	}
	if err := o.parse(); err != nil {
		return &usageError{err}
	}
	if err := authored(o.Directory); err != nil {
		return err
	}
	o.Progress = newProgress(cmd.ErrOrStderr(), "tests done:").at
	r, err := testrun.Run(cmd.Context(), o.Config)
	if err != nil {
		return bundleError(o.Directory, err)
	}
	text := func(w io.Writer) {
		fmt.Fprint(w, r.Text(o.verbose))
	}
	if err := o.output.print(r, text); err != nil {
		return err
	}
	if o.junit != "" {
		report, err := r.JUnit()
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.junit, report, 0o600); err != nil {
			return fmt.Errorf("write JUnit report: %w", err)
		}
	}
	return judge(cmd.ErrOrStderr(), o, r)
}

// parse reads the flags that are not plain values.
func (o *policyTestOptions) parse() error {
	if o.run != "" {
		re, err := regexp.Compile(o.run)
		if err != nil {
			return fmt.Errorf("--run: %w", err)
		}
		o.Run = re
	}
	if o.now != "" {
		now, err := testrun.ParseNow(o.now)
		if err != nil {
			return fmt.Errorf("--now %q %w: write one such as 2026-12-31T23:59:59Z", o.now, err)
		}
		o.Now = now
	}
	if o.coverage < 0 || o.coverage > 100 || o.Timeout <= 0 {
		return fmt.Errorf("--coverage %v is not a percentage, or --timeout %s is not above 0", o.coverage, o.Timeout)
	}
	return nil
}

// judge ends the command with the answer no, and says why where the report does
// not.
func judge(w io.Writer, o policyTestOptions, r testrun.Report) error {
	switch {
	case r.Passed+r.Failed == 0 && o.run != "":
		fmt.Fprintf(w, "portcullis: no test matches --run %q\nhint: --verbose without --run lists the names\n", o.run)
	case r.Passed+r.Failed == 0:
		fmt.Fprintf(w, "portcullis: the bundle has no tests\nhint: write portcullis/checks/<name>/<name>_test.rego, or fixtures in %s/*.yaml\n", testrun.Directory)
	case r.Failed > 0:
	case r.Coverage < o.coverage:
		fmt.Fprintf(w, "portcullis: tests evaluate %.1f %% of the lines of the checks, less than %v %%\n", r.Coverage, o.coverage)
		for _, g := range r.Gaps[:min(len(r.Gaps), maxGapsShown)] {
			fmt.Fprintf(w, "  not covered  %s\n", g)
		}
		fmt.Fprintln(w, "hint: --verbose lists every line that no test evaluates")
	default:
		return nil
	}
	return errAnswerIsNo
}

const maxGapsShown = 10
