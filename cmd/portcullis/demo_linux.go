package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
)

// demoOptions are the flags of portcullis demo.
type demoOptions struct {
	keep   string // directory to work in, which then stays
	policy string // bundle to decide by; "": the demo's own
}

func demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play the whole story on this machine: mounts, denials, rotation, audit proof",
		Long: `demo starts a provider and the node plugin as processes of their own, on real
sockets, and plays kubelet: it makes the same CSI calls that kubelet makes. It
needs root, since it mounts real volumes; they are in a mount namespace of its
own, so nothing else on the machine sees them. Everything it made is gone when
it ends, also after Ctrl-C.

With --policy your own bundle decides. The story stays the same: payments/api-0
has to get its two secrets, and shop/web-0 and payments/sly-0 have to be denied.

Exit code 0: every step was as told. 1: one was not, or something is missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demoMain(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.keep, "keep", "", "work in this new directory and leave logs, policy and audit log there to look at")
	cmd.Flags().StringVar(&o.policy, "policy", "", "decide by this bundle, a directory or what policy build wrote (default: the starter policy with the demo's grants)")
	return cmd
}

// demoNamespaceEnv marks the process that has the private mount namespace.
const demoNamespaceEnv = "PORTCULLIS_DEMO_NAMESPACE"

func demoMain(ctx context.Context, o demoOptions, out io.Writer) error {
	if os.Geteuid() != 0 {
		return &hintedError{errors.New("the demo mounts real volumes and needs root"), "run: sudo make demo"}
	}
	if os.Getenv(demoNamespaceEnv) == "" {
		return inOwnNamespace(ctx)
	}
	return playDemo(ctx, o, out)
}

// inOwnNamespace runs this very command again with mounts of its own: when
// that process ends, however it ends, the kernel takes its mounts away.
func inOwnNamespace(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...) //nolint:gosec // our own program and arguments
	cmd.Env = append(os.Environ(), demoNamespaceEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	// Ctrl-C reaches the whole process group by itself; SIGTERM must be
	// passed on, so that the child can clean up.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errDemoFailed
	}
	return err
}

var errDemoFailed = errors.New("the demo did not go as told")

// playDemo sets the stage, plays the steps and clears up.
func playDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	stage, err := newStage(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.clear()) }()
	say := &narrator{out: out}
	say.title(stage)
	if err := stage.start(ctx); err != nil {
		return err
	}
	for i, step := range steps() {
		say.step(i+1, len(steps()), step.title, step.why)
		if err := step.play(ctx, stage, say); err != nil {
			if ctx.Err() != nil {
				say.line("interrupted, clearing up")
				return errors.New("interrupted")
			}
			say.line("NOT AS TOLD: %v", err)
			say.logs(stage)
			return fmt.Errorf("step %d, %s: %w", i+1, step.title, err)
		}
	}
	say.end(stage)
	return nil
}
