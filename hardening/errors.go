package hardening

import (
	"errors"
	"fmt"
)

// Facts that callers test for.
var (
	// ErrUnsupported is returned on every system but Linux.
	ErrUnsupported = fmt.Errorf("secret volumes need Linux 5.12 or later: %w", errors.ErrUnsupported)
	// ErrNotOurs says that the mount at a target was not made by this driver.
	ErrNotOurs = errors.New("mount at the target is not a portcullis volume")
	// ErrMounted says that something is mounted where nothing should be.
	ErrMounted = errors.New("something is mounted at the target")
	// ErrOccupied says that a target directory has entries of its own.
	ErrOccupied = errors.New("target directory is not empty")
	// ErrNotDirectory says that a target, or a directory above it, is not a real
	// directory.
	ErrNotDirectory = errors.New("target is not a directory")
	// ErrChanging says that somebody moves directories or mounts at a target while
	// it is being used.
	ErrChanging = errors.New("target is being changed by somebody else")
	// ErrWiped says that a Plaintext was used after its Wipe, or was never filled.
	ErrWiped = errors.New("plaintext is wiped")
	// ErrMarshal says that somebody tried to marshal a Plaintext.
	ErrMarshal = errors.New("plaintext must not be marshalled")
	// ErrNoFiles says that a volume would have been empty.
	ErrNoFiles = errors.New("no files to deliver")
	// ErrFilled says that a volume was filled or attached already.
	ErrFilled = errors.New("volume is filled already")
	// ErrNotFilled says that a volume would have been attached empty.
	ErrNotFilled = errors.New("volume is not filled")
	// ErrClosed says that a System was never opened, or is closed.
	ErrClosed = errors.New("system is not open")
	// ErrBusy says that somebody uses a volume that nobody should.
	ErrBusy = errors.New("volume is in use")
	// ErrNotAttached says that a volume is not at any target.
	ErrNotAttached = errors.New("volume is not attached")
)

// ConfigError says which setting cannot work on this node, and what to do.
type ConfigError struct {
	Field  string // the flag or the kernel feature
	Reason string
	Remedy string
}

// Error names the setting, the reason and the remedy.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s: %s; hint: %s", e.Field, e.Reason, e.Remedy)
}

// PathError says why a file cannot be part of a volume.
type PathError struct {
	Path   string
	Reason string
	Remedy string
}

// Error quotes the path, since it comes from outside.
func (e *PathError) Error() string {
	return fmt.Sprintf("file %+q: %s; hint: %s", clip(e.Path), e.Reason, e.Remedy)
}

// LimitError says which bound a volume would exceed.
type LimitError struct {
	Field  string
	Got    int64
	Max    int64
	Remedy string
}

// Error names the bound and both numbers.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d is outside 1 to %d; hint: %s", e.Field, e.Got, e.Max, e.Remedy)
}

// TargetError says why a target path, a pod UID or a volume name is refused.
type TargetError struct {
	Field  string // "target_path", "pod uid" or "volume name"
	Value  string
	Reason string
}

// Error quotes the value, since it comes from outside.
func (e *TargetError) Error() string {
	return fmt.Sprintf("%s %+q: %s", e.Field, clip(e.Value), e.Reason)
}

// SocketError says why a socket is not trusted.
type SocketError struct {
	Path   string
	Reason string
	Remedy string
}

// Error names the socket, what is wrong and the remedy.
func (e *SocketError) Error() string {
	return fmt.Sprintf("socket %+q: %s; hint: %s", clip(e.Path), e.Reason, e.Remedy)
}

// ScrubError says that some entries of a volume could not be removed.
type ScrubError struct {
	Count int
	First error
}

// Error counts the entries and gives the first reason.
func (e *ScrubError) Error() string {
	return fmt.Sprintf("scrub: %d entries not removed, first: %v", e.Count, e.First)
}

// Unwrap returns the first reason.
func (e *ScrubError) Unwrap() error { return e.First }

// Outside input is quoted with %+q, as texts end in pod events and kubectl
// prints those raw: neither escape sequences nor look-alike letters get through.

// clip bounds what an error repeats: texts end in pod events.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
