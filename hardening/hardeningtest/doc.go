// Package hardeningtest says what a test needs of its machine.
//
// A test that lacks root or a kernel feature is skipped with the reason. Where
// the environment has REQUIRE_ROOT=1 it fails instead, so that one job of CI
// proves that nothing was skipped. The package promises nothing about the
// isolation of tests: whoever mounts must unmount. Call it first in a test.
package hardeningtest
