package daemon

// Keys of structured log lines.
const (
	keyActive = "active_serial"
	keyDigest = "digest"
	keyError  = "error"
	keyFlag   = "flag"
	keySerial = "serial"
	keySigned = "signed"
)
