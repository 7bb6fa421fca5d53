package node

import "github.com/portcullis-csi/portcullis/doctor"

// ParseSwaps reads /proc/swaps.
func ParseSwaps(text string) []string { return parseSwaps(text) }

// ParseLimit reads a line of /proc/self/limits.
func ParseLimit(text, name string) uint64 { return parseLimit(text, name) }

// ParseReadiness reads what /readyz answers.
func ParseReadiness(text string) []doctor.Condition { return parseReadiness(text) }

// Shared says whether the mount that holds a directory is shared.
func Shared(table, dir string) (bool, error) { return holder(parseMounts(table), dir) }

// Volumes lists the volumes of a mount table.
func Volumes(table, root string) []doctor.Volume { return volumesBelow(parseMounts(table), root) }
