package policies_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestRecordedInputDecidesAlike(t *testing.T) {
	engine := policiestest.Engine(t, policiestest.Grants)
	made := engine.Decide(t.Context(), policiestest.Input())
	text, err := made.Input().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != made.InputSHA256 {
		t.Errorf("digest of Canonical() = %x, want %s", sum, made.InputSHA256)
	}
	in, err := policies.ReadInput(text, policiestest.Now)
	if err != nil {
		t.Fatal(err)
	}
	again := engine.Decide(t.Context(), in)
	if again.ID != made.ID || again.Verdict() != policies.VerdictAllow {
		t.Errorf("decision = %s %s, want %s allow", again.ID, again.Verdict(), made.ID)
	}
	if diff := cmp.Diff(made.Input(), in); diff != "" {
		t.Errorf("input differs (-made +read):\n%s", diff)
	}
}

func TestReadInputRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "unknown field": `{"contract":"portcullis/v1","extra":1}`, "another contract": `{"contract":"v0"}`,
	} {
		if _, err := policies.ReadInput([]byte(text), 1); err == nil {
			t.Errorf("ReadInput(%s) = nil, want an error", name)
		}
	}
}
