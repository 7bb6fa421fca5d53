package driver

// Keys of structured log lines. Logs are for operators; what a SIEM needs is
// in the audit events.
const (
	keyMethod      = "method"
	keyCode        = "code"
	keyDuration    = "duration"
	keyCause       = "cause"
	keyError       = "error"
	keyNamespace   = "namespace"
	keyPod         = "pod"
	keyPodUID      = "podUID"
	keyVolume      = "volume"
	keyClass       = "secretProviderClass"
	keyProvider    = "provider"
	keyDecision    = "decisionId"
	keyCount       = "count"
	keyAudience    = "audience"
	keyDenied      = "deniedVolumes"
	keyRevoked     = "revokedVolumes"
	keyLive        = "liveVolumes"
	keyPath        = "path"
	keyStack       = "stack"
	keyRelocked    = "relockedFiles"
	keyInterrupted = "interruptedDeliveries"
)
