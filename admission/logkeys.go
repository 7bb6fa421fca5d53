package admission

// Keys of structured log lines.
const (
	keyResource  = "resource"
	keyOperation = "operation"
	keyNamespace = "namespace"
	keyName      = "name"
	keyVolume    = "volume"
	keyVerdict   = "verdict"
	keyDecision  = "decisionId"
	keyRequest   = "requestUid"
	keyError     = "error"
	keyStack     = "stack"
)
