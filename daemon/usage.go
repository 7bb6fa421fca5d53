package daemon

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// UsageError is a flag that is missing or wrong.
type UsageError struct {
	Problem string // what is refused and why
	Hint    string // what to do
}

// Error says what is wrong.
func (e *UsageError) Error() string { return e.Problem }

// hintMark divides a problem from its remedy in the text of an error.
const hintMark = "; hint: "

// Misuse returns a UsageError. A problem that comes with a hint keeps it: who wrote
// that knew more.
func Misuse(problem, hint string) error {
	if before, own, found := strings.Cut(problem, hintMark); found {
		problem, hint = before, own
	}
	return &UsageError{problem, hint}
}

// withHint adds a hint to an error that has none.
func withHint(err error, hint string) error {
	if strings.Contains(err.Error(), hintMark) {
		return err
	}
	return fmt.Errorf("%w%s%s", err, hintMark, hint)
}

// ExitCode tells why a program ends and returns what it exits with: 0 stopped as
// told, 1 refused or failed, 2 wrong flags.
func ExitCode(w io.Writer, program string, err error) int {
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(w, "%s: %v\n", program, err)
	if usage, ok := errors.AsType[*UsageError](err); ok {
		_, _ = fmt.Fprintf(w, "hint: %s\n", usage.Hint)
		return 2
	}
	return 1
}

// CheckClusterName refuses a --cluster-name that events, which everything is
// refused without, cannot have.
func CheckClusterName(name string) error {
	switch {
	case name == "":
		return Misuse("--cluster-name is missing", "name the cluster as your SIEM should show it, as in --cluster-name=prod-eu1")
	case !policies.ValidClusterName(name):
		return Misuse(fmt.Sprintf("--cluster-name %q is no name that events can have", name), "give at most 253 letters, digits, dots, dashes and underscores, with a letter or digit at both ends")
	}
	return nil
}

// CheckDriverName refuses a --drivername that the CSI specification does not let
// GetPluginInfo answer with, or that no CSIDriver object can have.
func CheckDriverName(name string) error {
	if !policies.ValidDriverName(name) {
		return Misuse(fmt.Sprintf("--drivername %q is not the name of a CSI driver", name), "give the name of the CSIDriver object: at most 63 letters, digits, dots and dashes")
	}
	return nil
}
