// Package signaturetest makes keys, certificates, signed bundles, and bundles that
// were tampered with, for the tests of whoever loads bundles.
//
// Everything it makes is real: keys that sign, certificates of an authority, log
// entries and timestamps as Sigstore's own, each of which the trusted root of its
// Authority proves. It is for tests only, and no secret of it is one.
package signaturetest
