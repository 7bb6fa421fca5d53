package podstatus

// Keys of structured log lines.
const (
	keyTrouble   = "trouble"
	keyNamespace = "namespace"
	keyObject    = "object"
	keyCount     = "count"
	keyError     = "error"
)
