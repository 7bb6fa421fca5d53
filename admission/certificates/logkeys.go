package certificates

// Keys of structured log lines.
const (
	keyBehind        = "behind"
	keyConfiguration = "configuration"
	keyError         = "error"
	keyExpires       = "notAfter"
	keySecret        = "secret"
	keyStep          = "step"
	keyWebhook       = "webhook"
)
