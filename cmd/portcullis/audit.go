package main

import "github.com/spf13/cobra"

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Work with audit logs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verifyCommand())
	cmd.AddCommand(proveCommand())
	cmd.AddCommand(checkProofCommand())
	cmd.AddCommand(exportCommand())
	cmd.AddCommand(tailCommand())
	cmd.AddCommand(inputCommand())
	cmd.AddCommand(checkpointCommand())
	cmd.AddCommand(rotateKeyCommand())
	cmd.AddCommand(sampleCommand())
	return cmd
}
