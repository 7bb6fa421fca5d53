//go:build e2e

package e2e_test

import "testing"

// A pod that is granted its secrets reads them, and nobody else had to do
// anything.
func TestPodReadsItsSecret(t *testing.T) {
	w := theWorld(t)
	p := w.started(pod(w.namespace("reads"), "app"))
	w.reads(p, "/secrets/password", "first")
	w.reads(p, "/secrets/user", "scott")
}
