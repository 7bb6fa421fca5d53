package main

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootsModule is where the authorities come from; go.mod pins its version.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// roots returns Mozilla's certificate authorities in PEM, without those that
// are trusted only for some certificates: a file of certificates cannot say so,
// and would trust them for all.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return b.Bytes()
}
