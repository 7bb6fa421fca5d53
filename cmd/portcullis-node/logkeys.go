package main

// Keys of structured log lines.
const (
	keyActive    = "active"
	keyDigest    = "digest"
	keyDumpable  = "dumpable"
	keyEndpoint  = "endpoint"
	keyError     = "error"
	keyFlag      = "flag"
	keyLocked    = "memoryLocked"
	keyManifests = "manifests"
	keyNode      = "node"
	keyProvider  = "provider"
	keyProtect   = "swapProtection"
	keySerial    = "serial"
	keySigned    = "signed"
	keyUnlocked  = "unlockedBecause"
	keyUnsigned  = "allowUnsignedPolicy"
	keyVersion   = "version"
)
