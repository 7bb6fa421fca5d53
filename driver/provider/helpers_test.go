package provider_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

const tokensJSON = `{"":{"token":"eyJ.default.sig","expirationTimestamp":"2030-01-01T00:00:00Z"},` +
	`"vault":{"token":"eyJ.vault.sig","expirationTimestamp":"2030-01-01T00:00:00Z"}}`

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func allowedZero() kube.Effective { return kube.Effective{} }

func mentions(err error, word string) bool { return err != nil && strings.Contains(err.Error(), word) }

// withParameter returns the fixture's parameters and one more.
func withParameter(t *testing.T, name, value string) kube.Effective {
	t.Helper()
	return effective(t, map[string]string{"objects": "- objectName: payments/db-password\n  objectAlias: db-password\n", name: value})
}

func wipedTokens(t *testing.T) provider.Tokens {
	t.Helper()
	tokens, err := provider.ParseTokens(map[string]string{provider.TokensKey: tokensJSON})
	if err != nil {
		t.Fatalf("ParseTokens() = %v", err)
	}
	tokens.Wipe()
	return tokens
}

func wipedSecrets() provider.Secrets {
	s := provider.NewSecrets(map[string]string{"a": "b"})
	s.Wipe()
	return s
}

// socketDir makes a directory whose name leaves room for a socket's.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") //nolint:usetesting // t.TempDir makes names that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// serveUnknown serves the provider "local" by a handler for unknown services
// and returns its directory.
func serveUnknown(t *testing.T, option grpc.ServerOption) string {
	t.Helper()
	dir := socketDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "local.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "local.sock"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(option)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	return dir
}
