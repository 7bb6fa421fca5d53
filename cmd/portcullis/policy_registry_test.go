package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// registryCommands are what scripts need to sign and publish.
func registryCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){"registry": startRegistry, "genkey": genkey, "field": field}
}

// startRegistry serves an OCI registry on a loopback address and sets a variable
// to it: registry VARIABLE [blind | tls USER PASSWORD]. With TLS it also writes ca.pem,
// and config.json with the credentials; a blind one takes what is pushed and shows
// nothing.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	blind := len(args) == 2 && args[1] == "blind"
	if neg || len(args) != 1 && len(args) != 4 && !blind {
		ts.Fatalf("usage: registry VARIABLE [blind | tls USER PASSWORD]")
	}
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	var s *httptest.Server
	switch {
	case len(args) == 1:
		s = httptest.NewServer(h)
	case blind:
		s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		}))
	default:
		s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != args[2] || password != args[3] {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o600))
		auth := base64.StdEncoding.EncodeToString([]byte(args[2] + ":" + args[3]))
		config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.Listener.Addr(), auth)
		ts.Check(os.WriteFile(ts.MkAbs("config.json"), []byte(config), 0o600))
	}
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.Listener.Addr().String())
}

// genkey makes a pair of keys, NAME.key and NAME.pub, as openssl does: genkey NAME.
func genkey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: genkey NAME")
	}
	write := func(suffix string, text []byte) { ts.Check(os.WriteFile(ts.MkAbs(args[0]+suffix), text, 0o600)) }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	write(".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	write(".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

// field sets a variable to what follows a word in the output of the last command:
// field VARIABLE WORD.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE WORD")
	}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == args[1] {
			ts.Setenv(args[0], words[1])
			return
		}
	}
	ts.Fatalf("%s is not in the output of the last command", args[1])
}
