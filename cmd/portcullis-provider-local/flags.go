package main

import (
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/hardening"
)

// Bounds of --max-file-bytes: the driver takes no reply above 4 MiB.
const (
	defaultFileBytes = 1 << 20
	maxReplyBytes    = 3 << 20
)

// options are the flags, one field a flag.
type options struct {
	endpoint     string
	root         string
	stateDir     string
	maxFileBytes int64
	logJSON      bool
}

// usageError is a flag that is missing or wrong.
type usageError struct {
	problem, hint string
}

// Error says what is wrong.
func (e *usageError) Error() string { return e.problem }

// newCommand returns the command line; start runs the daemon.
func newCommand(start func(context.Context, options) error) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "portcullis-provider-local",
		Short: "Secrets provider that serves the files of a directory",
		Long: `portcullis-provider-local answers on a provider socket and serves the files of a
directory: the objectName of a SecretProviderClass with provider local is the
path of a file below --root. Files are read at each call, so a changed file is
a changed secret; replace files by renaming new ones.

A file's version is an HMAC-SHA256 of its name and content with a random key
that is kept in --state-dir. A plain digest would let whoever reads audit events
guess a short secret from it.`,
		Args:          cobra.NoArgs,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return start(cmd.Context(), o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &usageError{err.Error(), "see portcullis-provider-local --help"}
	})
	cmd.SetVersionTemplate("{{.Version}}\n")
	f := cmd.Flags()
	f.StringVar(&o.endpoint, "endpoint", "unix:///var/run/secrets-store-csi-providers/local.sock", "unix:///path of the provider socket; the file must be called local.sock to be found")
	f.StringVar(&o.root, "root", "", "directory with the secrets (required)")
	f.StringVar(&o.stateDir, "state-dir", "", "directory for the key of object versions, mode 0700, outside --root (required)")
	f.Int64Var(&o.maxFileBytes, "max-file-bytes", defaultFileBytes, "largest secret, in bytes")
	f.BoolVar(&o.logJSON, "log-format-json", false, "log in JSON")
	return cmd
}

func (o *options) check() error {
	_, endpoint := hardening.ParseEndpoint(o.endpoint)
	switch {
	case o.root == "":
		return &usageError{"--root is missing", "name the directory that holds the secrets"}
	case o.stateDir == "":
		return &usageError{"--state-dir is missing", "name a directory of mode 0700 outside --root"}
	case o.maxFileBytes < 1 || o.maxFileBytes > maxReplyBytes:
		return &usageError{"--max-file-bytes is out of range", "use 1 to 3145728"}
	case endpoint != nil:
		return &usageError{"--endpoint is not a unix socket", "use unix:///path/local.sock"}
	}
	return nil
}

// stamped is the version that deploy/image tells the linker.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

// version returns the version of this build as its image was stamped, or else
// the Go toolchain.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
