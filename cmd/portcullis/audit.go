package main

import "github.com/spf13/cobra"

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Work with audit logs",
		Long: `audit is for whoever reads and proves what a node recorded. Without --file its
commands ask the plugin that runs on this node, as root; with it they read a copy.
docs/AUDIT_EVENTS.md describes the events.

Exit codes of all its commands: 0 done, and the answer is yes. 1 refused, failed,
or the log is not as it was written. 2 wrong usage. 3 done, and the answer is no.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
