// Package hardeningtest says what a test needs of its machine.
//
// A test that lacks root or a kernel feature is skipped with the reason. Where
// the environment has REQUIRE_ROOT=1 it fails instead, so that one job of CI
// proves that nothing was skipped. Call it first in a test.
//
// It also plays somebody who changes what is below the kubelet's directory while
// the driver works there: StartAttack, with Tricks or Plant. That is root at
// work: give it directories of the test and no others. The package promises
// nothing about the isolation of tests: whoever mounts must unmount.
package hardeningtest
