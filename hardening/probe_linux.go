package hardening

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// probe does once, detached and without a trace, what every publish will do:
// more truthful than a version number, since distributions backport.
func probe(context string) (kernelOffers, error) {
	offers := kernelOffers{lockErr: lockAllowed()}
	c := tmpfsConfig{limits: Limits{Bytes: 1}, context: context, noswap: true}
	root, err := newTmpfs(c)
	if errors.Is(err, unix.EINVAL) {
		c.noswap = false
		root, err = newTmpfs(c)
	}
	if err != nil {
		return kernelOffers{}, explain(err)
	}
	defer func() { _ = root.Close() }()
	if err := errors.Join(claim(root, "probe"), seal(root)); err != nil {
		return kernelOffers{}, explain(err)
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // absent: a kernel without swap
		return kernelOffers{}, fmt.Errorf("read swap areas: %w", err)
	}
	offers.noswap, offers.swapOn = c.noswap, swapActive(string(swaps))
	return offers, nil
}

// explain turns the usual reasons for a failed probe into advice.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return &ConfigError{Field: "kernel", Reason: "volumes cannot be built detached (" + err.Error() + ")", Remedy: "use Linux 5.12 or later"}
	case errors.Is(err, unix.EOPNOTSUPP):
		return &ConfigError{Field: "kernel", Reason: "tmpfs takes no extended attributes (" + err.Error() + ")", Remedy: "use a kernel with CONFIG_TMPFS_XATTR"}
	case errors.Is(err, unix.EPERM):
		return &ConfigError{Field: "privileges", Reason: "mounting is not permitted (" + err.Error() + ")", Remedy: "run as root with CAP_SYS_ADMIN; the DaemonSet needs privileged: true"}
	}
	return fmt.Errorf("probe kernel: %w", err)
}
