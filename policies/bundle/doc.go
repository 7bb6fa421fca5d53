// Package bundle loads policy bundles, keeps the active engine and replaces it.
//
// It promises that a bundle which cannot be read, verified or compiled, or has
// expired, changes nothing: the last good engine stays active (promise P10).
// Files are read below one directory, without following links, and within
// bounds. A digest covers every file that is read.
//
// It does not trust: a directory carries no signature, so a Source refuses it
// unless it is told to accept unsigned policy, which only development builds do.
//
// A caller makes a Source with NewSource, calls Reload once and refuses to
// become ready when that fails, then lets Run look for changes.
package bundle
