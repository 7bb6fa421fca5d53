//go:build !linux

package hardeningtest

func mayMount() bool { return false }

func kernelRelease() string { return "" }

func unmountAll(string) {}
