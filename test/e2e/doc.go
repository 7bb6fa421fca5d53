// Package e2e tests Portcullis where it lives: installed by its chart into a
// whole Kubernetes of one node, called by a real kubelet, with its real rights.
//
// It promises that a test sees what a user sees: kubectl's output, events, and
// files as a container reads them. The images are development builds, which say
// so in their name, since bundles are not signed yet; everything else is what
// is released.
//
// The tests are built with the tag e2e and need root. `make e2e` builds what
// they need and runs them; with PORTCULLIS_E2E_KUBERNETES=1.35 in that version.
// Most share one cluster; what breaks a cluster has one of its own. A test that
// waits more than it works, and changes nothing that others see, is parallel: it
// begins when all others are through. One of them publishes policy.
package e2e
