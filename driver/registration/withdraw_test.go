package registration_test

import (
	"errors"
	"os"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

// A registrar that is told to takes its socket back, and nobody else's.
func TestWithdraw(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(path string) error
		stays   bool
	}{
		"its own":   {func(string) error { return nil }, false},
		"removed":   {os.Remove, false},
		"successor": {func(path string) error { _, err := hardening.Listen(t.Context(), path); return err }, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := running(t)
			n.stop()
			if _, err := os.Lstat(n.path); err != nil {
				t.Fatalf("Lstat() = %v after Run, want the socket in place", err)
			}
			if err := tt.between(n.path); err != nil {
				t.Fatal(err)
			}
			if err := n.registrar.Withdraw(); err != nil {
				t.Errorf("Withdraw() = %v, want nil", err)
			}
			if _, err := os.Lstat(n.path); (err == nil) != tt.stays || err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Lstat() = %v after Withdraw(), want it to stay: %v", err, tt.stays)
			}
		})
	}
}
