package main_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
)

// TestOneHint: whatever passes an error on and adds a hint, the user reads one, that
// of who knew most.
func TestOneHint(t *testing.T) {
	plain, inner := errors.New("open key: no such file"), errors.New("read key: it is a private key; hint: give its public key")
	outer := fmt.Errorf("trust signers: %w; hint: give --key", inner)
	for name, tt := range map[string]struct {
		err  error
		code int
		want string
	}{
		"none":            {plain, 1, "portcullis: open key: no such file\n"},
		"its own":         {inner, 1, "portcullis: read key: it is a private key\nhint: give its public key\n"},
		"two":             {outer, 1, "portcullis: trust signers: read key: it is a private key\nhint: give its public key\n"},
		"split":           {portcullis.Hinted(outer, ""), 1, "portcullis: trust signers: read key: it is a private key\nhint: give its public key\n"},
		"added":           {portcullis.Hinted(plain, "name another"), 1, "portcullis: open key: no such file\nhint: name another\n"},
		"added to one":    {portcullis.Hinted(inner, "name another"), 1, "portcullis: read key: it is a private key\nhint: give its public key\n"},
		"usage":           {portcullis.Misused(plain), 2, "portcullis: open key: no such file\nhint: see portcullis --help\n"},
		"usage of one":    {portcullis.Misused(inner), 2, "portcullis: read key: it is a private key\nhint: give its public key\n"},
		"usage of both":   {portcullis.Misused(portcullis.Hinted(outer, "")), 2, "portcullis: trust signers: read key: it is a private key\nhint: give its public key\n"},
		"a list":          {errors.New("refused:\n  a; hint: b\n  c; hint: d"), 1, "portcullis: refused:\n  a; hint: b\n  c; hint: d\n"},
		"hint in a usage": {fmt.Errorf("a: %w", portcullis.Misused(portcullis.Hinted(plain, "b"))), 2, "portcullis: a: open key: no such file\nhint: b\n"},
	} {
		var b strings.Builder
		if code := portcullis.Complain(&b, tt.err); code != tt.code || b.String() != tt.want {
			t.Errorf("%s: %d %q, want %d %q", name, code, b.String(), tt.code, tt.want)
		}
	}
}
