// Package bundle loads policy bundles, keeps the active engine and replaces it.
//
// It promises that a bundle which cannot be read, verified or compiled, or has
// expired, changes nothing: the last good engine stays active (promise P10).
// A bundle is a directory, with grants and waivers in YAML as their authors write
// them, or an archive that WriteTarball made, with the index that a decision
// looks up and nothing else. Files are read without following links and within
// bounds. What is wrong with them is a policies.FileErrors: all of it, each with
// file, line, column, field and remedy. Both forms of one policy have one digest,
// that of the canonical content, and an archive in any other form is refused.
//
// It does not trust: neither form carries a signature, so a Source refuses it
// unless it is told to accept unsigned policy, which only development builds do.
//
// An author's bundle goes through Build, which completes the manifest, compiles
// it and warns, and WriteFile.
//
// A caller makes a Source with NewSource, calls Reload once and refuses to
// become ready when that fails, then lets Run look for changes.
package bundle
