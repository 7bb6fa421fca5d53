//go:build !linux

package hardening

import (
	"net"
	"syscall"
)

// Open returns ErrUnsupported.
func Open(Config) (*System, error) { return nil, ErrUnsupported }

// Close does nothing.
func (s *System) Close() error { return nil }

// NewVolume returns ErrUnsupported.
func (s *System) NewVolume(Limits) (*Volume, error) { return nil, ErrUnsupported }

// Target returns ErrUnsupported.
func (s *System) Target(string, string) (*Target, error) { return nil, ErrUnsupported }

// Mounts returns ErrUnsupported.
func (s *System) Mounts() ([]Mounted, error) { return nil, ErrUnsupported }

// Relock returns ErrUnsupported.
func (s *System) Relock() (int, error) { return 0, ErrUnsupported }

// DetachMoved returns ErrUnsupported.
func (s *System) DetachMoved(string, string) (Detached, error) { return Detached{}, ErrUnsupported }

// Fill returns ErrUnsupported.
func (v *Volume) Fill([]File) error { return ErrUnsupported }

// Attach returns ErrUnsupported.
func (v *Volume) Attach(*Target) error { return ErrUnsupported }

// Replace returns ErrUnsupported.
func (v *Volume) Replace([]File) (bool, error) { return false, ErrUnsupported }

// Scrub returns ErrUnsupported.
func (v *Volume) Scrub() error { return ErrUnsupported }

// Empty reports false.
func (v *Volume) Empty() bool { return false }

// Allow does nothing.
func (v *Volume) Allow(int64, func(int64) error) {}

// Hurry does nothing.
func (v *Volume) Hurry(<-chan struct{}) {}

// Stats returns ErrUnsupported.
func (v *Volume) Stats() (Stats, error) { return Stats{}, ErrUnsupported }

// Files returns ErrUnsupported.
func (v *Volume) Files() ([]FileInfo, error) { return nil, ErrUnsupported }

// Close does nothing.
func (v *Volume) Close() error { return nil }

// Prepare returns ErrUnsupported.
func (t *Target) Prepare() error { return ErrUnsupported }

// State returns ErrUnsupported.
func (t *Target) State() (State, error) { return StateUnknown, ErrUnsupported }

// OpenVolume returns ErrUnsupported.
func (t *Target) OpenVolume() (*Volume, error) { return nil, ErrUnsupported }

// Uncover returns ErrUnsupported.
func (t *Target) Uncover() error { return ErrUnsupported }

// Detach returns ErrUnsupported.
func (t *Target) Detach() (Detached, error) { return Detached{}, ErrUnsupported }

// KubeletKnows returns ErrUnsupported.
func (t *Target) KubeletKnows() (bool, error) { return false, ErrUnsupported }

// Held returns ErrUnsupported.
func (t *Target) Held() (bool, error) { return false, ErrUnsupported }

// DetachIdle returns ErrUnsupported.
func (t *Target) DetachIdle() (Detached, error) { return Detached{}, ErrUnsupported }

// SeesNode returns ErrUnsupported.
func (s *System) SeesNode() error { return ErrUnsupported }

// Discard returns ErrUnsupported.
func (t *Target) Discard() error { return ErrUnsupported }

// ScrubPlain returns ErrUnsupported.
func (t *Target) ScrubPlain() (int, error) { return 0, ErrUnsupported }

// ScrubBeneath returns ErrUnsupported.
func (t *Target) ScrubBeneath() (int, error) { return 0, ErrUnsupported }

// Close does nothing.
func (t *Target) Close() error { return nil }

// ProtectProcess returns ErrUnsupported.
func ProtectProcess() (ProcessReport, error) { return ProcessReport{}, ErrUnsupported }

// Confine returns ErrUnsupported.
func Confine(Profile) (Confinement, error) { return Confinement{}, ErrUnsupported }

// PrivateDirectory returns ErrUnsupported.
func PrivateDirectory(string, string) error { return ErrUnsupported }

// InUse returns ErrUnsupported.
func (s *System) InUse() (bool, error) { return false, ErrUnsupported }

// CheckSocket returns ErrUnsupported.
func CheckSocket(string, []int) error { return ErrUnsupported }

// PeerUID returns ErrUnsupported.
func PeerUID(*net.UnixConn) (int, error) { return 0, ErrUnsupported }

// FreeBytes returns ErrUnsupported.
func FreeBytes(string) (int64, error) { return 0, ErrUnsupported }

func restrict(_, _ string, _ syscall.RawConn) error { return ErrUnsupported }
