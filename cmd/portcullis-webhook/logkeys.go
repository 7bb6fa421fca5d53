package main

// Keys of structured log lines.
const (
	keyActive    = "active"
	keyDigest    = "digest"
	keyError     = "error"
	keyListen    = "listen"
	keyManifests = "manifests"
	keyReplica   = "replica"
	keySerial    = "serial"
	keySigned    = "signed"
	keyUnsigned  = "allowUnsignedPolicy"
	keyVersion   = "version"
)
