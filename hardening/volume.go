package hardening

import (
	"io/fs"
	"os"
)

// Hard ceilings of every volume; no caller can lift them.
const (
	maxFiles        = 64
	maxVolumeBytes  = 64 << 20
	maxVolumeInodes = 1024
	defaultInodes   = 128
	maxID           = 1<<31 - 1
)

// The ceilings of modes: with an fsGroup its members read, without one all the
// pod's processes do, and a file with an owner of its own is for that owner.
const (
	ceilingGroup    fs.FileMode = 0o440
	ceilingAll      fs.FileMode = 0o444
	ceilingOwner    fs.FileMode = 0o400
	dirModeGroup    fs.FileMode = 0o750
	dirModeAll      fs.FileMode = 0o755
	modeWhileFilled fs.FileMode = 0o700
)

// Limits bound one volume. The zero value allows nothing.
type Limits struct {
	// Bytes is the budget for content, counted in whole pages per file, as
	// tmpfs does. Required.
	Bytes int64
	// Inodes bounds files plus directories of one generation; 0 means 128.
	Inodes int
	// GID is the fsGroup that may read the volume; 0 means none.
	GID int
}

// SizeBytes returns the size= that a volume with these limits gets, which is
// what it counts for in a node's budget: room for the two generations that
// exist during a rotation, and a page to spare.
func (l Limits) SizeBytes() int64 {
	page := int64(os.Getpagesize())
	return 2*roundUp(l.Bytes, page) + page
}

// spareInodes are those of a volume itself: the root, ..data and its successor,
// two top directories, and the attribute of the root, which counts as one.
const spareInodes = 6

// nrInodes returns nr_inodes: two generations, and the names of both.
func (l Limits) nrInodes() int { return 4*l.inodes() + spareInodes }

func (l Limits) inodes() int {
	if l.Inodes == 0 {
		return defaultInodes
	}
	return l.Inodes
}

func (l Limits) dirMode() fs.FileMode {
	if l.GID != 0 {
		return dirModeGroup
	}
	return dirModeAll
}

// ceiling returns the widest mode of a file owned by uid.
func (l Limits) ceiling(uid int) fs.FileMode {
	switch {
	case uid != 0:
		return ceilingOwner
	case l.GID != 0:
		return ceilingGroup
	}
	return ceilingAll
}

// Validate returns a *LimitError if no volume can have these limits.
func (l Limits) Validate() error {
	switch {
	case l.Bytes < 1 || l.Bytes > maxVolumeBytes:
		return &LimitError{Field: "volume bytes", Got: l.Bytes, Max: maxVolumeBytes, Remedy: "set --max-volume-bytes within these bounds"}
	case l.Inodes < 0 || l.Inodes > maxVolumeInodes:
		return &LimitError{Field: "volume inodes", Got: int64(l.Inodes), Max: maxVolumeInodes, Remedy: "use fewer files"}
	case l.GID < 0 || l.GID > maxID:
		return &LimitError{Field: "volume group", Got: int64(l.GID), Max: maxID, Remedy: "use an fsGroup within these bounds"}
	}
	return nil
}

// File is one file to deliver. Its group is the volume's.
type File struct {
	Path string // relative to the volume
	UID  int    // 0 unless policy granted an owner
	Mode fs.FileMode
	Data *Plaintext
}

// FileInfo describes one delivered file, for the audit event.
type FileInfo struct {
	Path string
	Size int64
	UID  int
	GID  int
	Mode fs.FileMode
}

// Stats is the space and the inodes of a volume.
type Stats struct {
	BytesTotal, BytesUsed, BytesAvailable    int64
	InodesTotal, InodesUsed, InodesAvailable int64
}

// Volume is a tmpfs held by descriptor, never by path. It is not safe for
// concurrent use. The zero Volume fails in every method.
type Volume struct {
	sys    *System
	root   *descriptor
	limits Limits
	lock   bool // the tmpfs lacks noswap: pages must be locked
	held   *lockSet
	phase  volumePhase
	// reserve is asked before the volume fills so many bytes in all; may be nil.
	reserve func(total int64) error
	// hurry is closed when nobody has time any more; may be nil.
	hurry <-chan struct{}
}

type volumePhase int

const (
	phaseNone volumePhase = iota
	phaseDetached
	phaseFilled
	phaseAttached
)

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// limitsOf reads the limits of an attached volume back from its options. A
// privileged container can raise size= and nr_inodes=, hence the ceilings.
func limitsOf(m mountLine) Limits {
	page := int64(os.Getpagesize())
	return Limits{
		Bytes:  min(max((m.sizeBytes()-page)/2/page*page, page), maxVolumeBytes),
		Inodes: inodesOf(m.number("nr_inodes")),
		GID:    int(min(max(m.number("gid"), 0), maxID)),
	}
}

// inodesOf is the count that nr_inodes was made from. A container that removed
// the bound with nr_inodes=0 gets the default, not a frozen volume.
func inodesOf(nrInodes int64) int {
	if nrInodes <= spareInodes {
		return defaultInodes
	}
	return int(min(max((nrInodes-spareInodes)/4, 1), maxVolumeInodes))
}
