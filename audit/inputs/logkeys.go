package inputs

// Keys of structured log lines.
const (
	keyFile  = "file"
	keyCount = "count"
	keyError = "error"
)
