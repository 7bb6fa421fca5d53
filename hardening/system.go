package hardening

import (
	"sync"
	"time"
)

// Marker is the tmpfs source of our volumes. It shows in the mount table and
// is how a volume is known again after a restart; it is never pod data.
const Marker = "secrets-store.csi.portcullis"

// legacySource is what the upstream driver passes to mount(2).
const legacySource = "tmpfs"

// Setting is the value of the flag --swap-protection.
type Setting string

// The settings.
const (
	SettingAuto   Setting = "auto"
	SettingNoswap Setting = "noswap"
	SettingMlock  Setting = "mlock"
)

// ParseSetting returns the setting named s.
func ParseSetting(s string) (Setting, error) {
	switch v := Setting(s); v {
	case SettingAuto, SettingNoswap, SettingMlock:
		return v, nil
	}
	return "", &ConfigError{
		Field:  "--swap-protection",
		Reason: "unknown value " + quote(s),
		Remedy: "use auto, noswap or mlock",
	}
}

// SwapProtection says what keeps the pages of volumes out of swap.
type SwapProtection string

// The protections. The zero value protects nothing and is never in use.
const (
	ProtectionNoswap SwapProtection = "noswap"
	ProtectionMlock  SwapProtection = "mlock"
)

// Config says where the kubelet lives and how volumes are protected.
type Config struct {
	// KubeletRoot is absolute; symbolic links in it are followed, once.
	KubeletRoot string
	// Protection is required.
	Protection Setting
	// SELinuxContext is the context= of volumes; empty on nodes without SELinux.
	SELinuxContext string
	// Proc is a proc file system that shows the processes of the node; absent:
	// /proc. Where it shows only those of a container, Held has no answer.
	Proc string
	// Linger is how long a rotation leaves the old generation in place; absent: 250 ms.
	Linger time.Duration
}

// defaultLinger is for readers on their way into the old generation: between
// reading ..data and opening a file, or between two files below a handle. They
// would meet ENOENT. They need microseconds, and a container that is throttled
// by its CPU limit stops for up to 100 ms, also in the middle of an open.
const defaultLinger = 250 * time.Millisecond

// System is this node as far as volumes are concerned. It owns the descriptor
// of the pods directory, the swap protection and the locked mappings. Only
// Open makes a usable one.
type System struct {
	pods       *descriptor
	protection SwapProtection
	context    string
	proc       string
	linger     time.Duration

	mu    sync.Mutex
	locks map[string]*lockSet // by targetKey
}

// Mounted is one of our mounts below the pods directory.
type Mounted struct {
	PodUID string
	Volume string
	// SizeBytes is the size= of the tmpfs: what it may come to use. Zero means
	// that somebody remounted it without a bound.
	SizeBytes int64
}

// Protection returns what keeps volumes out of swap here.
func (s *System) Protection() SwapProtection { return s.protection }

// descriptor is an open file descriptor. Unlike *os.File it has no finalizer,
// which could close the number while a raw system call still uses it, and
// nil or closed it is -1, so that a mistake is EBADF and never another file.
type descriptor struct{ n int }

func (d *descriptor) fd() int {
	if d == nil {
		return -1
	}
	return d.n
}

// lockSet holds the mlock'd mappings of one volume.
type lockSet struct {
	mu   sync.Mutex
	maps [][]byte
}
