package main

// Keys of structured log lines.
const (
	keyActive    = "active"
	keyCaps      = "capabilities"
	keyDigest    = "digest"
	keyDumpable  = "dumpable"
	keyEndpoint  = "endpoint"
	keyError     = "error"
	keyFiltered  = "systemCallsFiltered"
	keyNoNew     = "noNewPrivs"
	keyLocked    = "memoryLocked"
	keyManifests = "manifests"
	keyNode      = "node"
	keyProvider  = "provider"
	keyProtect   = "swapProtection"
	keySerial    = "serial"
	keySigned    = "signed"
	keyThreads   = "threads"
	keyUnlocked  = "unlockedBecause"
	keyUnsigned  = "allowUnsignedPolicy"
	keyVersion   = "version"
)
