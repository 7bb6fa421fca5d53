// Package learn drafts grants from what workloads really asked for: it reads
// recorded decisions, mostly of a bundle in monitor mode, and writes the least
// that would have let them through, for a person to review.
//
// It promises that each drafted grant is one that policies/bundle accepts; that it
// names no namespace, service account, secret, owner or copy that was not asked
// for, and has no pattern; and that whatever a grant cannot mend, or could not be
// read, is counted and named.
//
// It does not promise that what was asked for should be granted: a recording of
// an attack drafts the attacker's grants. Nothing it writes is in force before
// somebody puts it into a bundle.
package learn
