//go:build !linux

package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// errReaderRefused is never returned here.
var errReaderRefused = errors.New("permission denied")

const readerRefusedCode = 13

// demoCommand refuses: there is no memory-only volume to show.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "Play the whole story on this machine (Linux only)", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &hintedError{fmt.Errorf("the demo mounts tmpfs volumes and does not run on %s", runtime.GOOS), "run it on Linux 5.12 or later, as root"}
		},
	}
}

func demoReaderCommand() *cobra.Command { return &cobra.Command{Use: "demo-reader", Hidden: true} }
