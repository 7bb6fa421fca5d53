//go:build !linux

package hardening

// ProbeKernel knows nothing.
func ProbeKernel() Kernel { return Kernel{Refused: ErrUnsupported} }
