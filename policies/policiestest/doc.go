// Package policiestest helps tests of other packages to decisions made by a
// real engine, since only an engine makes a decision that is not an error.
//
// It promises complete, valid inputs and real decisions. It makes no fake
// ones, and it is for tests only. A caller needs nothing first.
package policiestest
