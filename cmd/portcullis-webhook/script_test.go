package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	webhook "github.com/portcullis-csi/portcullis/cmd/portcullis-webhook"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"portcullis-webhook": func() { os.Exit(webhook.Run(os.Args[1:])) },
	})
}

// TestScripts plays the user stories of testdata/script. The condition insecure
// holds in builds with that tag; make test runs both.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(name string) (bool, error) {
			return name == "insecure" && webhook.InsecureBuild, nil
		},
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"LISTEN", "HEALTH", "METRICS"} {
				l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(name, l.Addr().String())
				if err := l.Close(); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"await": await, "certificate": certificate, "hangup": hangup, "keys": keys, "publish": publish, "review": review, "shows": shows},
		RequireUniqueNames: true,
	})
}

// certificate writes tls.crt and tls.key of a serial number: certificate DIR SERIAL.
func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: certificate DIR SERIAL")
	}
	serial, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "name-" + args[1]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"portcullis-webhook.security.svc"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// shows waits until the listener shows a certificate: shows ADDRESS SERIAL.
func shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shows ADDRESS SERIAL")
	}
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := tls.Dial("tcp", args[0], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			got = err.Error()
			continue
		}
		got = conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		conn.Close()
		if got == args[1] {
			return
		}
	}
	ts.Fatalf("%s shows %s, want %s", args[0], got, args[1])
}

// review sends a file as an API server does, and compares the answer: review URL
// FILE REGEXP [DIR], with the client certificate of a directory. With !, the answer
// must not match; where there is none it is "0 " and the error.
func review(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 && len(args) != 4 {
		ts.Fatalf("usage: [!] review URL FILE REGEXP [DIR]")
	}
	config := &tls.Config{InsecureSkipVerify: true}
	if len(args) == 4 {
		shown, err := tls.LoadX509KeyPair(filepath.Join(ts.MkAbs(args[3]), "tls.crt"), filepath.Join(ts.MkAbs(args[3]), "tls.key"))
		ts.Check(err)
		config.Certificates = []tls.Certificate{shown}
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	var answer string
	if resp, err := client.Post(args[0], "application/json", bytes.NewReader([]byte(ts.ReadFile(args[1])))); err != nil {
		answer = "0 " + err.Error()
	} else {
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		ts.Check(err)
		answer = strconv.Itoa(resp.StatusCode) + " " + string(text)
	}
	if regexp.MustCompile(args[2]).MatchString(answer) == neg {
		ts.Fatalf("review of %s: %s, want that it matches %q: %v", args[1], answer, args[2], !neg)
	}
}

// hangup sends SIGHUP to what runs in the background: hangup.
func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: hangup")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

// await asks until the answer matches: await URL STATUS REGEXP.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: await URL STATUS REGEXP")
	}
	want := regexp.MustCompile(args[2])
	client := http.Client{Timeout: time.Second}
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(args[0]) //nolint:noctx // the client has a timeout
		if err != nil {
			got = err.Error()
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		got = strconv.Itoa(resp.StatusCode) + "\n" + string(body)
		if status, text, _ := strings.Cut(got, "\n"); err == nil && status == args[1] && want.MatchString(text) {
			return
		}
	}
	ts.Fatalf("%s answers %q, want %s and %q", args[0], got, args[1], args[2])
}
