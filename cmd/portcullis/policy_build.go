package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// buildOptions are the flags of portcullis policy build.
type buildOptions struct {
	out, notAfter          string
	serial                 int64
	revision, sourceCommit string
	force, strict          bool
	output                 output
}

func buildCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build DIR --out bundle.tar.gz --serial N",
		Short: "Build a policy bundle to publish",
		Long: `build reads the policy in a directory, compiles it as strictly as a node does, and
writes the bundle that nodes read: checks without their tests, configuration, and
grants and waivers as the index that a decision looks up. Every mistake is named
with its file, line and column. Equal policy, serial and end give equal bytes.

  portcullis policy build policy --out bundle.tar.gz --serial 42 \
      --source-commit "$(git rev-parse HEAD)"

The serial must be above that of every bundle published before, also for a
rollback. The bundle ends after 30 days unless --not-after or the .manifest says
otherwise, and after 90 days at most; publish another in time.

Warnings are about what is valid and perhaps not meant: grants that expire soon or
are never live, monitor mode, the brake on mass revocation.

Exit code 0: built. 1: refused. 2: wrong usage. 3: built, with warnings and --strict.`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			return buildMain(cmd.Context(), args[0], o, cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "file to write, a tar.gz (required)")
	f.Int64Var(&o.serial, "serial", 0, "number of the bundle, above every one before (default: the .manifest's)")
	f.StringVar(&o.notAfter, "not-after", "", "last day, such as 2026-12-31, or a time of RFC 3339 (default: the .manifest's, or 30 days)")
	f.StringVar(&o.revision, "revision", "", "what you call this state of the policy (default: the .manifest's)")
	f.StringVar(&o.sourceCommit, "source-commit", "", "commit that DIR was checked out from (default: the .manifest's)")
	f.BoolVar(&o.force, "force", false, "overwrite the file")
	f.BoolVar(&o.strict, "strict", false, "exit with 3 if there are warnings")
	addOutput(cmd, &o.output)
	return cmd
}

func oneDirectory(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{fmt.Errorf("build takes one directory, not %d arguments", len(args))}
	}
	return nil
}

func buildMain(ctx context.Context, dir string, o buildOptions, progress io.Writer) error {
	c := bundle.BuildConfig{Serial: o.serial, Revision: o.revision, SourceCommit: o.sourceCommit, Now: time.Now()}
	var err error
	if o.out == "" {
		return &usageError{errors.New("--out is missing: it names the file to write")}
	}
	if c.NotAfter, err = parseEnd(o.notAfter); err != nil {
		return &usageError{err}
	}
	if err := outside(dir, o.out); err != nil {
		return err
	}
	if err := authored(dir); err != nil {
		return err
	}
	b, err := bundle.LoadDirectory(dir)
	if err != nil {
		return bundleError(dir, err)
	}
	built, err := bundle.Build(ctx, b, c)
	if err != nil {
		return policyError(dir, err)
	}
	if err := bundle.WriteFile(o.out, built.Bundle, o.force); err != nil {
		if errors.Is(err, bundle.ErrExists) {
			return &hintedError{err, "choose another --out, or give --force"}
		}
		return err
	}
	return o.answer(built, progress)
}

// outside refuses a bundle among the files that it is made of: the next build
// would find it there.
func outside(dir, out string) error {
	from, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find policy directory: %w", err)
	}
	to, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("find --out: %w", err)
	}
	if inside, err := filepath.Rel(from, to); err == nil && filepath.IsLocal(inside) {
		return &hintedError{fmt.Errorf("--out %q lies in the policy directory", out), "name a file beside it: nothing but policy may be in there"}
	}
	return nil
}

// parseEnd reads a day, which counts in full, or a time.
func parseEnd(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if end, err := policies.EndOfDate(text); err == nil {
		return end, nil
	}
	end, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--not-after %q is neither a day such as 2026-12-31 nor a time of RFC 3339", text)
	}
	return end, nil
}

// policyError lists what is wrong with the files of a policy, one a line where it
// is more than one thing.
func policyError(dir string, err error) error {
	_, listed := errors.AsType[policies.FileErrors](err)
	text := err.Error()
	if !listed && !strings.Contains(text, "\n") {
		return withHint(err)
	}
	return &hintedError{
		fmt.Errorf("policy in %q is refused:\n  %s", dir, strings.ReplaceAll(visible(text), "\n", "\n  ")),
		"each line begins with file, line and column; docs/POLICIES.md describes every field",
	}
}

// buildReport is the form of --output json: for machines, and stable.
type buildReport struct {
	File         string           `json:"file"`
	Digest       string           `json:"digest"`
	Serial       int64            `json:"serial"`
	Revision     string           `json:"revision,omitempty"`
	SourceCommit string           `json:"sourceCommit,omitempty"`
	NotAfter     time.Time        `json:"notAfter"`
	Grants       int              `json:"grants"`
	Waivers      int              `json:"waivers"`
	Checks       int              `json:"checks"`
	Warnings     []bundle.Warning `json:"warnings"`
}

func (o buildOptions) answer(built bundle.Built, progress io.Writer) error {
	m := built.Bundle.Manifest
	r := buildReport{
		File: o.out, Digest: built.Bundle.Digest, Serial: m.Serial, Revision: m.Revision, SourceCommit: m.SourceCommit,
		NotAfter: m.NotAfter, Grants: built.Grants, Waivers: built.Waivers, Checks: len(built.Bundle.Modules),
		Warnings: append([]bundle.Warning{}, built.Warnings...),
	}
	printWarnings(progress, r.Warnings)
	if err := o.output.print(r, r.text); err != nil {
		return err
	}
	if o.strict && len(r.Warnings) > 0 {
		return errAnswerIsNo
	}
	return nil
}

// maxWarnings bounds what people are shown; --output json has all of them.
const maxWarnings = 50

func printWarnings(w io.Writer, warnings []bundle.Warning) {
	for i, warning := range warnings {
		if i == maxWarnings {
			fmt.Fprintf(w, "warning: %d more are in --output json\n", len(warnings)-i)
			return
		}
		fmt.Fprintf(w, "warning: %s: %s\n", warning.ID, warning.Message)
	}
}

func (r buildReport) text(w io.Writer) {
	fmt.Fprintf(w, "built %s\n", r.File)
	fmt.Fprintf(w, "  digest     %s\n", r.Digest)
	fmt.Fprintf(w, "  serial     %d\n", r.Serial)
	fmt.Fprintf(w, "  not after  %s\n", r.NotAfter.Format(time.RFC3339))
	if r.SourceCommit != "" {
		fmt.Fprintf(w, "  commit     %s\n", r.SourceCommit)
	}
	fmt.Fprintf(w, "  holds      %d grants, %d waivers, %d checks\n", r.Grants, r.Waivers, r.Checks)
	fmt.Fprintf(w, "next: compare it with the bundle in force (portcullis policy diff), and publish it before that one ends\n")
}
