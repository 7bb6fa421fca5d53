package daemon

// Keys of structured log lines.
const (
	keyActive = "active"
	keyChange = "change"
	keyDigest = "digest"
	keyError  = "error"
	keyFlag   = "flag"
	keyOrigin = "origin"
	keySerial = "serial"
	keySigned = "signed"
)
