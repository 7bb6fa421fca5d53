// Package authority makes the keys of a test cluster: a certificate authority,
// what it signs, and the pair that service account tokens are signed with.
//
// It promises keys that nobody else has and that end after a day. It is not a
// way to run a certificate authority: nothing is revoked, and every certificate
// is good for servers and clients alike.
package authority
