// Package diff says which decisions change between two bundles.
//
// It promises to decide each case by both engines on the same input, to count
// every case, and to list every flip of an effect by workload, with the rules and
// the owners of the grants that make the difference. Results do not depend on how
// many cores there are. Memory is bounded by the number of different flips, of
// which at most MaxGroups are listed and the others counted; cases stream.
//
// It does not judge whether a flip is wanted.
package diff
