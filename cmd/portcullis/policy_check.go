package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/check"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// policyCheckOptions are the flags of portcullis policy check.
type policyCheckOptions struct {
	check.Config
	fix    bool
	strict bool
	output output
}

func policyCheckCommand() *cobra.Command {
	var o policyCheckOptions
	cmd := &cobra.Command{
		Use:   "check [DIR | bundle.tar.gz]",
		Short: "Look for mistakes in a policy bundle",
		Long: `check reads a policy bundle as the engine does and as a careful reviewer would:

  * everything for which the bundle would be refused, with its place: syntax,
    misspelt fields of the input, built-ins that are not allowed, grants
  * what Rego takes for right and is not: != over a field that may be absent, a
    message that one undefined term silences, every over nothing
  * what an author forgets: METADATA, remediation, a test for each rule
  * format, as opa fmt writes it; --fix rewrites the files
  * what decisions cost beside 10,000 grants, counted in evaluations and
    allocations, against the library without any check

A comment "# portcullis:ignore <id>" above a line, or at its end, silences a
warning. Errors cannot be silenced.

  portcullis policy check ./policy
  portcullis policy check --strict --profile ./policy

Exit code 0: no errors, and with --strict no warnings. 3: findings.
1: could not look. 2: wrong usage.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Path = bundleArgument(args)
			return policyCheckMain(cmd, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.fix, "fix", false, "first rewrite the Rego files as opa fmt does")
	f.BoolVar(&o.strict, "strict", false, "warnings are findings too")
	f.Float64Var(&o.Ratio, "max-cost", check.DefaultRatio, "how many times the cost of the library alone a decision may have")
	f.BoolVar(&o.WithoutBudget, "no-cost", false, "do not measure what decisions cost")
	f.IntVar(&o.Profile, "profile", 0, "name the dearest expressions of the checks, so many of them")
	f.Lookup("profile").NoOptDefVal = "5"
	addOutput(cmd, &o.output)
	return cmd
}

// bundleArgument is the directory or file that a command is about.
func bundleArgument(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

func policyCheckMain(cmd *cobra.Command, o policyCheckOptions) error {
	if o.Ratio <= 0 || o.Profile < 0 {
		return &usageError{errors.New("--max-cost and --profile are numbers above 0")}
	}
	if o.fix {
		if err := fixFormat(cmd.ErrOrStderr(), o.Path); err != nil {
			return err
		}
	}
	r, err := check.Run(cmd.Context(), o.Config)
	if err != nil {
		return bundleError(o.Path, err)
	}
	text := func(w io.Writer) {
		fmt.Fprint(w, r.Text())
	}
	if err := o.output.print(r, text); err != nil {
		return err
	}
	if r.Errors > 0 || o.strict && r.Warnings > 0 {
		return errAnswerIsNo
	}
	return nil
}

func fixFormat(w io.Writer, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &hintedError{fmt.Errorf("open policy directory: %w", err), "--fix rewrites the files of a directory"}
	}
	defer root.Close()
	changed, err := check.Fix(root)
	for _, name := range changed {
		fmt.Fprintf(w, "rewrote %s\n", testrun.Printable(name))
	}
	return err
}

// bundleError says what to name where there is no bundle, and lists what is wrong
// with one.
func bundleError(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &hintedError{&cleanError{err}, "name the directory that holds portcullis/, or a bundle that policy build made"}
	}
	return policyError(path, err)
}

// authored refuses a file where only its author's directory will do.
func authored(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return &hintedError{fmt.Errorf("%q is not a directory", dir), "name the author's directory, which holds portcullis/: a built bundle has neither tests nor grants in YAML"}
	}
	return nil
}
