package daemon

// Keys of structured log lines.
const (
	keyDigest = "digest"
	keyError  = "error"
	keyFlag   = "flag"
)
