package shadow

// Keys of the process's log.
const (
	keyDigest = "digest"
	keyStack  = "stack"
)
