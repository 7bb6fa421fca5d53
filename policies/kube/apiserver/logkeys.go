package apiserver

const (
	keyObject = "object"
	keyReason = "reason"
	keyCode   = "code"
	keyError  = "error"
)
