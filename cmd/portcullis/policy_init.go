package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/deploy"
)

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a policy repository to begin with",
		Long: `init writes a policy repository into a new or empty directory: the starter policy
with its tests, workloads to try it on, a Makefile and an example of continuous
integration.

  portcullis policy init payments-policy
  cd payments-policy && make

Exit code 0: written. 1: refused or failed. 2: wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("init takes one directory")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return initMain(args[0], cmd.OutOrStdout()) },
	}
}

func initMain(dir string, out io.Writer) error {
	there, err := os.ReadDir(dir)
	switch {
	case err == nil && len(there) > 0:
		return &hintedError{fmt.Errorf("%q is not empty", dir), "name a directory that does not exist yet, or an empty one"}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at the directory: %w", err)
	}
	template, err := deploy.PolicyTemplate()
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, template); err != nil {
		return fmt.Errorf("write policy repository: %w", err)
	}
	fmt.Fprintf(out, "wrote a policy repository into %q\n\nnext:\n  portcullis policy test %[1]s/policy\n  edit %[1]s/policy/portcullis/grants/example.yaml\n", dir)
	return nil
}
