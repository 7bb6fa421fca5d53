package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies"
)

// A token that verifies and names anybody else refuses the whole request,
// beside whatever good ones.
func TestTokensOfSomebodyElse(t *testing.T) {
	key := p256(t, "k1")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key)))
	bind := func(name string, value any) func(c, bound map[string]any) {
		return func(_, bound map[string]any) { bound[name] = value }
	}
	ref := func(name, uid string) map[string]any { return map[string]any{"name": name, "uid": uid} }
	without := func(name string, then func(c, bound map[string]any)) func(c, bound map[string]any) {
		return func(c, bound map[string]any) {
			delete(bound, name)
			then(c, bound)
		}
	}
	for name, c := range map[string]struct {
		change func(c, bound map[string]any)
		field  string
	}{
		"another namespace":                       {bind("namespace", "kube-system"), "namespace"},
		"another pod":                             {bind("pod", ref("api-1", otherUID)), "pod"},
		"an earlier pod of the name":              {bind("pod", ref("api-0", otherUID)), "pod UID"},
		"a pod of another name with this UID":     {bind("pod", ref("api-1", podUID)), "pod"},
		"another service account":                 {bind("serviceaccount", ref("admin", otherUID)), "service account"},
		"an earlier service account of that name": {bind("serviceaccount", ref("api", otherUID)), "service account UID"},
		"another node":                            {bind("node", ref("node-b", otherUID)), "node"},
		"another subject":                         {func(c, _ map[string]any) { c["sub"] = "system:serviceaccount:kube-system:admin" }, "subject"},
		"a user":                                  {func(c, _ map[string]any) { c["sub"] = "system:admin" }, "subject"},
		"another namespace and no pod":            {without("pod", bind("namespace", "kube-system")), "namespace"},
		"another account and no pod":              {without("pod", bind("serviceaccount", ref("admin", otherUID))), "service account"},
		"another node and no pod":                 {without("pod", bind("node", ref("node-b", otherUID))), "node"},
		"name in other letters":                   {bind("pod", ref("API-0", podUID)), "pod"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := key.mint(apiClaims(c.change))
			for what, claimed := range map[string]tokens{
				"alone": {"vault": bad}, "beside a good one": {"aws": key.mint(apiClaims(audience("aws"))), "vault": bad, "zz": "x"},
			} {
				got, err := v.Verify(t.Context(), with(claimed))
				e, ok := errors.AsType[*identity.UnconfirmedError](err)
				if !ok || e.Field != c.field {
					t.Fatalf("Verify(%s) = %v, want *UnconfirmedError of field %q", what, err, c.field)
				}
				if got.Pod != nil || got.TokenVerified || got.Tokens != nil {
					t.Errorf("Verify(%s) = %+v with an error, want nobody confirmed", what, got)
				}
			}
			// What does not verify proves nothing, and accuses nobody.
			if got := problem(t, v, tokens{"aws": bad}); got != wrongAudience {
				t.Errorf("Verify(for another audience) = %q, want %q", got, wrongAudience)
			}
			late := key.mint(apiClaims(c.change, at("exp", -time.Hour)))
			if got := problem(t, v, tokens{"vault": late}); got != expired {
				t.Errorf("Verify(expired) = %q, want %q", got, expired)
			}
		})
	}
}

func TestSeveralAudiences(t *testing.T) {
	key, forger := p256(t, "k1"), p256(t, "k1")
	k := newKeys(t, newSource(key))
	claimed := tokens{
		"vault": key.mint(apiClaims()), "aws": forger.mint(apiClaims(audience("aws"))), "": key.mint(apiClaims(audience(issuer))), "gcp": key.mint(apiClaims()), "zz": "x",
	}
	got, err := verifier(t, clusterOf(pod(nil)), k).Verify(t.Context(), with(claimed))
	if err != nil || !got.TokenVerified {
		t.Fatalf("Verify() = %v, token verified %t, want nil and true", err, got.TokenVerified)
	}
	want := []policies.Token{{Audience: "", Verified: true}, {Audience: "aws"}, {Audience: "gcp"}, {Audience: "vault", Verified: true}, {Audience: "zz"}}
	if diff := cmp.Diff(want, got.Tokens); diff != "" {
		t.Errorf("Verify().Tokens (-want +got):\n%s", diff)
	}
	problems := []identity.UnverifiedToken{{Audience: "aws", Problem: badSignature}, {Audience: "gcp", Problem: wrongAudience}, {Audience: "zz", Problem: notAToken}}
	if diff := cmp.Diff(problems, got.Unverified); diff != "" {
		t.Errorf("Verify().Unverified (-want +got):\n%s", diff)
	}
}

// The audience "" is the API server's own, whatever that is called.
func TestTheAPIServersOwnAudience(t *testing.T) {
	key := p256(t, "k1")
	for name, c := range map[string]struct {
		configured []string
		aud        any
		want       string
	}{
		"the issuer by default":       {nil, []string{issuer, "k3s"}, ""},
		"nothing else by default":     {nil, "https://kubernetes.default.svc", wrongAudience},
		"an empty audience":           {nil, "", wrongAudience},
		"another tool's":              {nil, "vault", wrongAudience},
		"what is configured":          {[]string{"api", "k3s"}, "k3s", ""},
		"the issuer is then not it":   {[]string{"api"}, issuer, wrongAudience},
		"an empty one if configured?": {[]string{"api"}, "", wrongAudience},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key), c.configured...))
			if got := problem(t, v, tokens{"": key.mint(apiClaims(audience(c.aud)))}); got != c.want {
				t.Errorf("Verify(aud %v) = %q, want %q", c.aud, got, c.want)
			}
		})
	}
}

func TestNoTokensVerifyNothing(t *testing.T) {
	s := newSource(p256(t, "k1"))
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
	for name, none := range map[string]identity.Tokens{"nil": nil, "empty": tokens{}} {
		got, err := v.Verify(t.Context(), with(none))
		if err != nil || got.TokenVerified || got.Tokens != nil || s.count() != 0 {
			t.Errorf("Verify(%s) = %+v, %v after %d fetches, want no token and no fetch", name, got.Tokens, err, s.count())
		}
	}
	for _, text := range []string{"", "x", "a.b", "a.b.c.d", "e30.e30.e30"} {
		if got := problem(t, v, tokens{"vault": text}); got == "" || s.count() != 0 {
			t.Errorf("Verify(%q) = %q after %d fetches, want a problem and no fetch", text, got, s.count())
		}
	}
}

func TestWithoutKeysNoTokenIsVerified(t *testing.T) {
	key := p256(t, "k1")
	if got := problem(t, verifier(t, clusterOf(pod(nil)), nil), tokens{"vault": key.mint(apiClaims())}); got != "cannot be verified: no keys are configured" {
		t.Errorf("Verify() = %q, want not verified for want of keys", got)
	}
}

// Nothing of a token is in what is printed of the outcome.
func TestNothingOfATokenIsTold(t *testing.T) {
	key := p256(t, "k1")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key)))
	const secret = "canary-5f3a"
	for name, token := range map[string]string{
		"of another pod": key.mint(apiClaims(func(_, b map[string]any) { b["pod"] = map[string]any{"name": secret, "uid": secret} })),
		"bad issuer":     key.mint(apiClaims(func(c, _ map[string]any) { c["iss"] = secret })),
		"unknown key":    key.sign(`{"alg":"ES256","kid":"`+secret+`"}`, encode(apiClaims())),
		"no JSON":        key.sign(key.header(), secret),
		"no token":       secret,
	} {
		got, err := v.Verify(t.Context(), with(tokens{"vault": token}))
		told := fmt.Sprintf("%v %+v %+v", err, got.Tokens, got.Unverified)
		if signature := token[strings.LastIndex(token, ".")+1:]; strings.Contains(told, secret) || strings.Contains(told, signature) {
			t.Errorf("Verify(%s) tells %q, want nothing of the token", name, told)
		}
	}
}

// TestP9DoubtAboutKeysDeniesNobody: what once was verified, and now has a key, an
// issuer or a time that cannot be right, is an error for a mounted volume. For a
// new one it is not verified, and so is what nobody can have signed.
func TestP9DoubtAboutKeysDeniesNobody(t *testing.T) {
	key, stranger := p256(t, "known"), p256(t, "withdrawn")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key)))
	forgery := key.mint(apiClaims())
	forgery = forgery[:len(forgery)-8] + "AAAAAAAA"
	for name, c := range map[string]struct {
		token string
		doubt bool
	}{
		"unknown key":    {stranger.mint(apiClaims()), true},
		"other issuer":   {key.mint(apiClaims(func(c, _ map[string]any) { c["iss"] = "https://other.example" })), true},
		"expired":        {key.mint(apiClaims(at("exp", -time.Hour))), true},
		"not yet valid":  {key.mint(apiClaims(at("nbf", time.Hour))), true},
		"forged":         {forgery, false},
		"other audience": {key.mint(apiClaims(audience("aws"))), false},
		"no token":       {"x.y.z", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem(t, v, tokens{"vault": c.token}); got == "" {
				t.Error("Verify() of a new volume = verified, want it not to be")
			}
			mounted := with(tokens{"vault": c.token})
			mounted.Mounted, mounted.WasVerified = true, true
			got, err := v.Verify(t.Context(), mounted)
			_, unavailable := errors.AsType[*identity.UnavailableError](err)
			if unavailable != c.doubt || err == nil && got.TokenVerified {
				t.Errorf("Verify() of a volume that was verified = verified %t, %v, want unavailable: %t", got.TokenVerified, err, c.doubt)
			}
		})
	}
}
