// Package sourcetest makes trees to build images from in tests: the product's
// module path and program names, with programs of a few lines, in a git
// repository with one commit.
//
// It promises that what is built from them passes every check that the real
// tree passes. Their programs print the version they were stamped with, and
// "insecure" when that tag was set.
package sourcetest
