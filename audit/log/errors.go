package log

import (
	"errors"
	"fmt"
)

// Why a log does not take a leaf, or cannot be opened.
var (
	ErrClosed   = errors.New("audit log is closed")
	ErrFull     = errors.New("audit log is full of events that a required sink lacks; hint: mend the sink, or give the log more room")
	ErrDiskFull = errors.New("disk of the audit log is full; hint: make room there")
	ErrGone     = errors.New("not in the audit log any more, or never was; hint: begin with the oldest epoch that is kept")
	ErrLocked   = errors.New("audit log is in use by another process; hint: stop it, or verify a copy")
	ErrReplaced = errors.New("audit log file was removed, replaced or truncated while open; hint: find out by whom, then restart")
	ErrBroken   = errors.New("audit log could not be written to the disk; hint: check the disk, then restart")
	ErrTooLarge = errors.New("leaf is larger than 32 KiB")
	ErrNotJSON  = errors.New("leaf is not one JSON object")
)

// TamperedError says that a log is not what was signed.
type TamperedError struct {
	File  string
	Index int64  // of the leaf, -1 if it is about the whole
	What  string // our words, nothing out of the file
	Hint  string
}

// Error names the file, the place, the finding and the remedy.
func (e *TamperedError) Error() string {
	where := ""
	if e.Index >= 0 {
		where = fmt.Sprintf("event %d: ", e.Index)
	}
	return fmt.Sprintf("audit log %q was altered or damaged: %s%s; hint: %s", e.File, where, e.What, e.Hint)
}

const hintTampered = "keep the file as evidence, and compare with what was shipped"

func tampered(index int64, format string, args ...any) *TamperedError {
	return &TamperedError{Index: index, What: fmt.Sprintf(format, args...), Hint: hintTampered}
}

// foreignError is a file that says to be of another log.
type foreignError struct {
	*TamperedError
	origin string
}

// Unwrap makes it the finding that it is.
func (e *foreignError) Unwrap() error { return e.TamperedError }

// DirectoryError says what is wrong with the log's directory or a file in it.
type DirectoryError struct {
	Path    string
	Problem string
	Remedy  string
}

// Error names the path, the problem and the remedy.
func (e *DirectoryError) Error() string {
	return fmt.Sprintf("audit log at %q: %s; hint: %s", e.Path, e.Problem, e.Remedy)
}
