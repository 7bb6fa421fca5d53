// Package store keeps on disk what a process must know of signed policy after a
// restart: the last good bundle with its signatures, and the state that judges
// the next one.
//
// It promises that each of its two files is replaced whole and durably or not at
// all, at whatever step the process or the machine dies, and that what is read is
// within bounds and has its checksum. A checksum is against accidents alone: it
// trusts nobody who can write the directory, and neither may its caller. A bundle
// that comes from here is verified as one from a registry is.
//
// State is security state: who removes it lowers the floor of serials to what the
// cluster and the flags say, and forgets which break-glass bundles were used.
package store
