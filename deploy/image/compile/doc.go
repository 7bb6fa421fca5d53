// Package compile makes the static binaries that the images hold.
//
// It promises that equal sources give equal bytes: whatever of the caller's
// environment could reach a binary (toolchain, Go flags, experiments, CPU
// level, paths) is fixed, and a binary that is not what was asked for (another
// platform, cgo, an interpreter, the wrong build tags) is an error. What a
// program says of itself is the version that the caller gives, and the commit.
//
// It does not promise that the sources are unchanged: Source.Modified says so,
// and the caller must refuse to publish those.
package compile
