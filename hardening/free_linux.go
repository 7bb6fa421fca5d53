package hardening

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// FreeBytes returns how many bytes the file system of a directory has left for
// this process's user.
func FreeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space at %+q: %w", clip(dir), err)
	}
	block := uint64(max(st.Bsize, 1))
	if st.Bavail > math.MaxInt64/block {
		return math.MaxInt64, nil
	}
	return int64(st.Bavail * block), nil //nolint:gosec // G115: compared above
}
