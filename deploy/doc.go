// Package deploy holds files that are copied from here: the policy repository
// that policy init writes.
//
// It promises that they are whole, and that the bundle among them is the starter
// policy. A caller copies them, and does not change them in place.
package deploy
