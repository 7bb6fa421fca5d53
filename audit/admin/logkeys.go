package admin

// Keys of structured log lines.
const (
	keyError   = "error"
	keyRequest = "request"
)
