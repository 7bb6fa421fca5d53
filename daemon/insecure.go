//go:build insecure

package daemon

// Insecure marks builds for development: start line, readiness, metric and every
// event say so.
const Insecure = true
