package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

func schemaCommand() *cobra.Command {
	names := strings.Join(bundle.SchemaNames(), "|")
	return &cobra.Command{
		Use:   "schema " + names,
		Short: "Print the JSON Schema of a policy file",
		Long: `schema prints a JSON Schema (draft 2020-12), for editors that complete and check
while you write, and for pipelines. What it accepts may still be refused by policy
build, which also knows what belongs together; what it refuses, build refuses too.

  portcullis policy schema grants > .schemas/grants.json

and, in the first line of a file of grants, for editors with the YAML language
server:

  # yaml-language-server: $schema=../../.schemas/grants.json

Exit code 0: printed. 2: wrong usage.`,
		ValidArgs: bundle.SchemaNames(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("schema takes one of %s", names)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := bundle.Schema(args[0])
			if err != nil {
				return &usageError{err}
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
