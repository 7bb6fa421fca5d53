//go:build insecure

package daemon

// Insecure marks builds for development: start line, readiness, metric and every
// event say so.
const Insecure = true

const directoryNote = "; with --allow-unsigned-policy and no key, a directory or a tar.gz that nobody signed"
