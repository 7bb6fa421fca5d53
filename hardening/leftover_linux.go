package hardening

import (
	"fmt"
	"slices"
	"strings"
)

// removeLeftovers removes the generations that ..data does not lead to and that
// no subPath has mounted: the process died while it rotated the volume. Nobody
// uses them, and they fill the volume, so that the next rotation could be refused
// for want of room, and each one after it. Where ..data does not lead to a
// generation, none goes.
func (v *Volume) removeLeftovers(view *descriptor) error {
	names, err := topNames(view)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	current, err := readLink(view, dataName)
	if err != nil || current == dataName || !slices.Contains(names, current) {
		return nil //nolint:nilerr // not for certain the current one
	}
	return v.removeOld(view, slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, reservedStart) && name != dataName && name != current
	}))
}
