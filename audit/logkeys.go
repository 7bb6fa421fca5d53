package audit

// Keys of structured log lines.
const (
	keyType  = "type"
	keyID    = "eventId"
	keyCount = "count"
	keyError = "error"
)
