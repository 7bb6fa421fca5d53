package main

import "github.com/spf13/cobra"

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, test and explain policy",
		Long: `policy is for whoever writes the bundle that decides which pods may have which
secrets. docs/POLICIES.md leads from an empty directory to a bundle in force.

Exit codes of all its commands: 0 done, and the answer is yes. 1 refused or
failed. 2 wrong usage. 3 done, and the answer is no: a denial, a finding, a
failed test, a decision that changes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(initCommand())
	cmd.AddCommand(learnCommand())
	cmd.AddCommand(buildCommand())
	cmd.AddCommand(signCommand())
	cmd.AddCommand(verifyBundleCommand())
	cmd.AddCommand(pushCommand())
	cmd.AddCommand(pullCommand())
	cmd.AddCommand(schemaCommand())
	cmd.AddCommand(policyCheckCommand())
	cmd.AddCommand(policyTestCommand())
	cmd.AddCommand(policyEvalCommand())
	cmd.AddCommand(policyExplainCommand())
	cmd.AddCommand(policyDiffCommand())
	cmd.AddCommand(policyShadowCommand())
	cmd.AddCommand(replayCommand())
	return cmd
}
