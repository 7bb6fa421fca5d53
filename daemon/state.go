package daemon

import (
	"errors"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/hardening"
)

// StateDirectory makes the directory of --state-dir, for the user of this process
// alone.
func StateDirectory(dir string) error {
	err := hardening.PrivateDirectory("--state-dir", filepath.Clean(dir))
	if wrong, ok := errors.AsType[*hardening.ConfigError](err); ok {
		return Misuse(wrong.Field+": "+wrong.Reason, wrong.Remedy)
	}
	return err
}
