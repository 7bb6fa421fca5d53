// Package eval reads inputs that somebody wrote or a log has kept, and writes
// decisions for people and machines.
//
// It promises that an input which it returns fits the schema of the contract and
// the bounds of the engine, and that what does not is refused with the name of
// the field. A recorded input is returned only if it has the digest that was
// recorded with it.
package eval
