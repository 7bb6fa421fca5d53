// Package audittest has a log in memory for the tests of packages that record
// events.
//
// It promises what a real log does: leaves in order, an index for each, and
// errors where the test asks for them. It does not keep anything, and it is for
// tests only. A caller needs nothing first.
package audittest
