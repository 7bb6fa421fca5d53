// Package tessera has somebody else's verifier check our logs: tessera's fsck,
// which Certificate Transparency and checksum logs are checked with, reads what
// audit/proof exports, and nothing of ours.
//
// It promises nothing about what fsck does not look at: that epochs follow each
// other, and which keys may sign them. It is a module of its own, so that
// tessera and what it imports never reach the product's go.mod.
package tessera
