package daemon

import (
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// LogFlags are the flags of the process's own log. Upstream's names and defaults.
type LogFlags struct {
	json      bool
	verbosity int
}

// Add defines the flags.
func (o *LogFlags) Add(f *pflag.FlagSet) {
	f.BoolVar(&o.json, "log-format-json", false, "log in JSON")
	f.IntVarP(&o.verbosity, "v", "v", 0, "log verbosity; 4 and more logs every call")
}

// debugFrom is the verbosity from which every call is logged.
const debugFrom = 4

// Logger returns the log of a process.
func (o *LogFlags) Logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if o.verbosity >= debugFrom {
		options.Level = slog.LevelDebug
	}
	if o.json {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
