package signature_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// panics are what a library may do with bytes that nobody thought of.
func panics() map[string]func() {
	var list []int
	var missing *signature.Error
	var nobodys map[string]int
	return map[string]func(){
		"index":       func() { list[len(list)]++ },
		"nil pointer": func() { missing.Detail = "x" },
		"nil map":     func() { nobodys["a"] = 1 },
		"text":        func() { panic("\x1b[31mred\nand a line") },
		"error":       func() { panic(errors.New("no")) },
		"nil":         func() { panic(nil) },
	}
}

// TestP12APanicOfALibraryIsARefusal: whoever writes to a registry can make the libraries
// read what they like, and a plugin that crashes on it would do so at each start. The
// panic is one of the verifier, below cosign's frames.
func TestP12APanicOfALibraryIsARefusal(t *testing.T) {
	s := signaturetest.NewSigner(t)
	for _, form := range signaturetest.Forms() {
		for name, hurt := range panics() {
			t.Run(form.Name+"/"+name, func(t *testing.T) {
				trust, called := signaturetest.Trust(t, 1, s), 0
				signature.Hurt(trust, func() {
					called++
					hurt()
				})
				good := form.Signed(t, tarball(t), s)
				wantReason(t, trust, good, signature.Malformed)
				if called == 0 {
					t.Error("the verifier was not asked: nothing is proven")
				}
				// It costs nobody else's word: another process with the same key.
				if v, err := signaturetest.Trust(t, 1, s).Verify(t.Context(), good); err != nil || !slices.Equal(v.Signers, []string{s.Key().ID}) {
					t.Errorf("Verify() afterwards = %v, %v, want %s", v, err, s.Key().ID)
				}
			})
		}
	}
}

// One signature that hurts does not take the others' word away.
func TestAPanicLeavesOtherSignaturesTheirWord(t *testing.T) {
	s := signaturetest.NewSigner(t)
	for _, form := range signaturetest.Forms() {
		trust, called := signaturetest.Trust(t, 1, s), 0
		signature.Hurt(trust, func() {
			if called++; called == 1 {
				panic("the first one")
			}
		})
		signed := form.Signed(t, tarball(t), s, s)
		if v, err := trust.Verify(t.Context(), signed); err != nil || len(v.Signers) != 1 || called != 2 {
			t.Errorf("%s: Verify() of two signatures = %v, %v after %d questions, want the second to count", form.Name, v, err, called)
		}
	}
}

func TestGuardLeavesAloneWhatReturns(t *testing.T) {
	plain := errors.New("plain")
	if err := signature.Guard(func() error { return plain }); !errors.Is(err, plain) || err.Error() != "plain" {
		t.Errorf("guard() = %v, want the error as it is", err)
	}
	if err := signature.Guard(func() error { return nil }); err != nil {
		t.Errorf("guard() = %v, want nil", err)
	}
	for name, hurt := range panics() {
		if err := signature.Guard(func() error { hurt(); return nil }); err == nil || !strings.HasPrefix(err.Error(), "it cannot be read: ") {
			t.Errorf("guard() of a panic by %s = %v, want that it cannot be read", name, err)
		}
	}
}
