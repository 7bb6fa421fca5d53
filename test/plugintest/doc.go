// Package plugintest runs the built node plugin as a process of its own, for the
// tests that are its kubelet.
//
// It promises that no plugin outlives its test, that a plugin's words are in the
// output of a test that failed, and that tests at the same time do not meet.
//
// Main is for every package whose tests mount: what they leave behind, killed ones
// too, is gone with the mount namespace that they ran in.
//
// It is no fake: the binary is the one that go build makes of cmd/portcullis-node.
package plugintest
