package provider_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
)

func TestParseTokens(t *testing.T) {
	many := map[string]any{}
	for i := range 33 {
		many[fmt.Sprint(i)] = map[string]string{"token": "a"}
	}
	tooMany, err := json.Marshal(many)
	must(t, err)
	tests := map[string]struct {
		text string
		want []string
		err  error
	}{
		"absent":           {"", nil, nil},
		"two":              {tokensJSON, []string{"", "vault"}, nil},
		"empty object":     {"{}", nil, nil},
		"null":             {"null", nil, nil},
		"not JSON":         {canary, nil, provider.ErrTokens},
		"a list":           {"[]", nil, provider.ErrTokens},
		"cut off":          {tokensJSON[:40], nil, provider.ErrTokens},
		"token missing":    {`{"a":{}}`, nil, provider.ErrTokens},
		"token empty":      {`{"a":{"token":""}}`, nil, provider.ErrTokens},
		"token a number":   {`{"a":{"token":1}}`, nil, provider.ErrTokens},
		"token null":       {`{"a":{"token":null}}`, nil, provider.ErrTokens},
		"token an object":  {`{"a":{"token":{"b":"c"}}}`, nil, provider.ErrTokens},
		"escape in token":  {`{"a":{"token":"b\u0041"}}`, nil, provider.ErrTokens},
		"newline in token": {`{"a":{"token":"b\nc"}}`, nil, provider.ErrTokens},
		"odd timestamp":    {`{"a":{"token":"b","expirationTimestamp":"` + canary + `"}}`, nil, provider.ErrTokens},
		"too many":         {string(tooMany), nil, provider.ErrTokens},
		"too long":         {`{"a":{"token":"` + strings.Repeat("a", 256<<10) + `"}}`, nil, provider.ErrTokens},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := provider.ParseTokens(map[string]string{provider.TokensKey: tt.text, "other": "x"})
			if !errors.Is(err, tt.err) || mentions(err, canary) {
				t.Fatalf("ParseTokens(%q) = %v, want %v", tt.text, err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got.Audiences()); diff != "" {
				t.Errorf("ParseTokens(%q).Audiences() (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestTokensDoNotPrint(t *testing.T) {
	tokens, err := provider.ParseTokens(map[string]string{provider.TokensKey: `{"a":{"token":"` + canary + `"}}`})
	must(t, err)
	secrets := provider.NewSecrets(map[string]string{"clientsecret": canary})
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, v := range []any{tokens, &tokens, secrets, &secrets, provider.Call{Tokens: tokens, Secrets: secrets}} {
			if got := fmt.Sprintf(format, v); strings.Contains(got, canary) || strings.Contains(got, fmt.Sprintf("%x", canary)) {
				t.Errorf("Sprintf(%q, %T) holds the secret: %s", format, v, got)
			}
		}
	}
	value, ok := tokens.Token("a")
	if !ok {
		t.Fatal(`Token("a") = false, want true`)
	}
	err = value.Use(func(p []byte) error {
		if string(p) != canary {
			t.Errorf(`Token("a") = %d other bytes`, len(p))
		}
		return nil
	})
	must(t, err)
	if _, ok := tokens.Token("b"); ok {
		t.Error(`Token("b") = true, want false`)
	}
}

// TestAudiences: tokens go to the provider only as the grant says.
func TestAudiences(t *testing.T) {
	tests := map[string]struct {
		grant string // audiences of the grant
		want  []string
	}{
		"absent: all": {"", []string{"", "vault"}},
		"one":         {"  audiences: [vault]\n", []string{"vault"}},
		"another":     {"  audiences: [aws]\n", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, decent())
			withTokens := func(in *policies.Input) { in.Tokens = []policies.Token{{Audience: ""}, {Audience: "vault"}} }
			call := decided(t, grants+tt.grant, objects("db-password"), withTokens)
			var err error
			call.Tokens, err = provider.ParseTokens(map[string]string{provider.TokensKey: tokensJSON})
			must(t, err)
			if _, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call); err != nil {
				t.Fatalf("Deliver() = %v", err)
			}
			var attributes map[string]string
			must(t, json.Unmarshal([]byte(p.Calls()[0].GetAttributes()), &attributes))
			text, present := attributes[provider.TokensKey]
			if present != (tt.want != nil) {
				t.Fatalf("attribute %s present = %v, want %v", provider.TokensKey, present, tt.want != nil)
			}
			sent, err := provider.ParseTokens(map[string]string{provider.TokensKey: text})
			must(t, err)
			if diff := cmp.Diff(tt.want, sent.Audiences()); diff != "" {
				t.Errorf("audiences sent (-want +got):\n%s", diff)
			}
			if got := p.Calls()[0].GetSecrets(); got != "{}" {
				t.Errorf("secrets sent = %q, want {}", got)
			}
		})
	}
}

func FuzzParseTokens(f *testing.F) {
	for _, s := range []string{tokensJSON, "{}", "null", `{"a":{"token":"b"},"a":{"token":"c"}}`, `{"a":{"TOKEN":"b"}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := provider.ParseTokens(map[string]string{provider.TokensKey: text})
		if err != nil && (!errors.Is(err, provider.ErrTokens) || len(tokens.Audiences()) > 0) {
			t.Errorf("ParseTokens(%q) = %v, %v", text, tokens.Audiences(), err)
		}
		for _, a := range tokens.Audiences() {
			if value, ok := tokens.Token(a); !ok || value.Len() == 0 {
				t.Errorf("ParseTokens(%q).Token(%q) is empty", text, a)
			}
		}
		tokens.Wipe()
	})
}

// FuzzQuote: providers read with a JSON parser what is written without one.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", `"\`, "\x00\x1f\x7f", "\u2028<>&", "\xff\xfe", "日本", strings.Repeat("\x01", 5000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var got string
		if err := json.Unmarshal(provider.Quote(p), &got); err != nil {
			t.Fatalf("Unmarshal(Quote(%q)) = %v", p, err)
		}
		want := strings.ToValidUTF8(string(p), "\ufffd")
		if utf8.Valid(p) && got != want {
			t.Errorf("Quote(%q) reads as %q", p, got)
		}
		library, err := json.Marshal(string(p))
		must(t, err)
		var same string
		must(t, json.Unmarshal(library, &same))
		if got != same {
			t.Errorf("Quote(%q) reads as %q, encoding/json's as %q", p, got, same)
		}
	})
}
