package proof

import "fmt"

// RefusedError says why something is not proved, or not exported.
type RefusedError struct {
	What string
	Hint string
}

// Error names the finding and the remedy.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s; hint: %s", e.What, e.Hint) }

func refused(hint, format string, args ...any) *RefusedError {
	return &RefusedError{fmt.Sprintf(format, args...), hint}
}
