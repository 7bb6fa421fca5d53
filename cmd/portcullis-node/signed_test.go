package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// keys makes a key pair: keys NAME, for NAME.pub and NAME.key.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys NAME")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
}

// publish builds a directory with a serial into a tarball, and signs it: publish DIR
// SERIAL KEY FILE. Without a KEY, which is -, the signature that is there stays.
func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: publish DIR SERIAL KEY FILE")
	}
	serial, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	b, err := bundle.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	b.Manifest.Serial, b.Manifest.NotAfter = serial, time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	file := ts.MkAbs(args[3])
	ts.Check(bundle.WriteFile(file+".new", b, true))
	if args[2] != "-" {
		text, err := os.ReadFile(file + ".new")
		ts.Check(err)
		signer, err := signature.LoadSigner([]byte(ts.ReadFile(args[2])), nil)
		ts.Check(err)
		signed, err := signature.Sign(context.Background(), signer, signature.Artifact{Tarball: text}, signature.FormatBundle)
		ts.Check(err)
		ts.Check(os.WriteFile(file+".sigstore.json", signed.Bundle, 0o600))
	}
	ts.Check(os.Rename(file+".new", file))
}

// unreachable writes the kubeconfig of an API server that is down: unreachable FILE.
func unreachable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unreachable FILE")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: t}}],
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: %s}}]}`, ca)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
