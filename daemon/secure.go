//go:build !insecure

package daemon

// Insecure is false: this build has no flag that weakens anything.
const Insecure = false

const directoryNote = ""
