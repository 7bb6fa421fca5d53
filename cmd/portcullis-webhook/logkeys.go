package main

// Keys of structured log lines.
const (
	keyError     = "error"
	keyListen    = "listen"
	keyManifests = "manifests"
	keyReplica   = "replica"
	keyUnsigned  = "allowUnsignedPolicy"
	keyVersion   = "version"
)
