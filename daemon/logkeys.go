package daemon

// Keys of structured log lines.
const (
	keyActive       = "active"
	keyActiveSerial = "active_serial"
	keyChange       = "change"
	keyDigest       = "digest"
	keyError        = "error"
	keyFlag         = "flag"
	keyOrigin       = "origin"
	keySerial       = "serial"
	keySigned       = "signed"
)
