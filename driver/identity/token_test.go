package identity_test

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTokensAreVerified(t *testing.T) {
	rsaKey, p256Key := newRSA(t, "rsa"), p256(t, "p256")
	p384Key, p521Key := newEC(t, "p384", elliptic.P384()), newEC(t, "p521", elliptic.P521())
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(rsaKey, p256Key, p384Key, p521Key)))
	for name, c := range map[string]struct{ audience, token string }{
		"RS256":                 {"vault", rsaKey.mint(apiClaims())},
		"ES256":                 {"vault", p256Key.mint(apiClaims())},
		"ES384":                 {"vault", p384Key.mint(apiClaims())},
		"ES512":                 {"vault", p521Key.mint(apiClaims())},
		"with a type":           {"vault", p256Key.sign(`{"alg":"ES256","kid":"p256","typ":"JWT"}`, encode(apiClaims()))},
		"audience as text":      {"vault", p256Key.mint(apiClaims(audience("vault")))},
		"one of many audiences": {"vault", p256Key.mint(apiClaims(audience([]string{"aws", "vault", "gcp"})))},
		"the API server's own":  {"", p256Key.mint(apiClaims(audience([]string{issuer})))},
		"no node, as before Kubernetes 1.30": {"vault", p256Key.mint(apiClaims(func(_, bound map[string]any) {
			delete(bound, "node")
		}))},
		"a node whose object is not there": {"vault", p256Key.mint(apiClaims(func(_, bound map[string]any) {
			bound["node"] = map[string]any{"name": "node-a"}
		}))},
		"claims that nobody knows": {"vault", p256Key.mint(apiClaims(func(c, bound map[string]any) {
			c["later"], bound["later"], bound["warnafter"] = []any{1, nil, map[string]any{"a": true}}, "x", 1
		}))},
		"within the leeway of its end":   {"vault", p256Key.mint(apiClaims(at("exp", -50*time.Second)))},
		"within the leeway of its start": {"vault", p256Key.mint(apiClaims(at("nbf", 50*time.Second), at("iat", 50*time.Second)))},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem(t, v, tokens{c.audience: c.token}); got != "" {
				t.Errorf("Verify() = %q, want verified", got)
			}
		})
	}
}

func at(claim string, offset time.Duration) func(c, bound map[string]any) {
	return func(c, _ map[string]any) { c[claim] = time.Now().Add(offset).Unix() }
}

// Reasons, in the words of Unverified.
const (
	notAToken      = "is not a JSON Web Token as the API server writes it"
	wrongAlgorithm = "is signed with an algorithm that is not the key's, or not accepted"
	unknownKey     = "is signed with a key that the cluster does not publish"
	badSignature   = "has a signature that is not the cluster's"
	wrongIssuer    = "has another issuer than the cluster's"
	wrongAudience  = "is not for this audience"
	expired        = "has expired"
	notYetValid    = "is not valid yet"
	notBound       = "is not bound to a pod"
)

// hs256 signs with a public key as if it were a shared secret, in the ways in
// which libraries have taken one (CVE-2015-9235, CVE-2016-10555).
func hs256(header, payload string, secret []byte) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func TestForgedTokensAreNotVerified(t *testing.T) {
	key, other, ec := newRSA(t, "k1"), newRSA(t, "k2"), p256(t, "k3")
	forger, ecForger := newRSA(t, "k1"), p256(t, "k3")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key, other, ec)))
	der, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, ok := key.key.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("not an RSA key")
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	payload, good := encode(apiClaims()), key.mint(apiClaims())
	ecGood := ec.mint(apiClaims())
	part := strings.Split(good, ".")
	ecPart := strings.Split(ecGood, ".")
	admin := b64([]byte(encode(apiClaims(func(c, _ map[string]any) { c["sub"] = "system:serviceaccount:kube-system:admin" }))))
	hmacHeader := `{"alg":"HS256","kid":"k1"}`
	jwk := encode(forger.jwk())
	for name, c := range map[string]struct{ token, want string }{
		"none":                           {b64([]byte(`{"alg":"none","kid":"k1"}`)) + "." + part[1] + "." + part[2], wrongAlgorithm},
		"none without a signature":       {b64([]byte(`{"alg":"none","kid":"k1"}`)) + "." + part[1] + ".", notAToken},
		"None":                           {b64([]byte(`{"alg":"NoNe","kid":"k1"}`)) + "." + part[1] + "." + part[2], wrongAlgorithm},
		"HS256 with the key as DER":      {hs256(hmacHeader, payload, der), wrongAlgorithm},
		"HS256 with the key as PEM":      {hs256(hmacHeader, payload, block), wrongAlgorithm},
		"HS256 with the modulus":         {hs256(hmacHeader, payload, public.N.Bytes()), wrongAlgorithm},
		"HS256 with nothing":             {hs256(hmacHeader, payload, nil), wrongAlgorithm},
		"PS256 on an RS256 key":          {key.sign(`{"alg":"PS256","kid":"k1"}`, payload), wrongAlgorithm},
		"RS384 on an RS256 key":          {key.sign(`{"alg":"RS384","kid":"k1"}`, payload), wrongAlgorithm},
		"ES256 on an RSA key":            {ec.sign(`{"alg":"ES256","kid":"k1"}`, payload), wrongAlgorithm},
		"ES384 on a P-256 key":           {ec.sign(`{"alg":"ES384","kid":"k3"}`, payload), wrongAlgorithm},
		"the algorithm in lower case":    {key.sign(`{"alg":"rs256","kid":"k1"}`, payload), wrongAlgorithm},
		"no algorithm":                   {key.sign(`{"kid":"k1"}`, payload), notAToken},
		"two algorithms":                 {key.sign(`{"alg":"RS256","alg":"none","kid":"k1"}`, payload), notAToken},
		"an algorithm that is no text":   {key.sign(`{"alg":["RS256"],"kid":"k1"}`, payload), notAToken},
		"kid of another key":             {key.sign(`{"alg":"RS256","kid":"k2"}`, payload), badSignature},
		"kid that nobody knows":          {key.sign(`{"alg":"RS256","kid":"k9"}`, payload), unknownKey},
		"kid that is a path":             {key.sign(`{"alg":"RS256","kid":"../../dev/null"}`, payload), unknownKey},
		"kid of 257 bytes":               {key.sign(fmt.Sprintf(`{"alg":"RS256","kid":%q}`, strings.Repeat("k", 257)), payload), notAToken},
		"no kid":                         {key.sign(`{"alg":"RS256"}`, payload), notAToken},
		"empty kid":                      {key.sign(`{"alg":"RS256","kid":""}`, payload), notAToken},
		"KID":                            {key.sign(`{"alg":"RS256","KID":"k1"}`, payload), notAToken},
		"a key of its own (jwk)":         {forger.sign(`{"alg":"RS256","kid":"k1","jwk":`+jwk+`}`, payload), notAToken},
		"a key set of its own (jku)":     {forger.sign(`{"alg":"RS256","kid":"k1","jku":"https://evil.example/keys"}`, payload), notAToken},
		"a certificate of its own (x5u)": {forger.sign(`{"alg":"RS256","kid":"k1","x5u":"https://evil.example/cert"}`, payload), notAToken},
		"a certificate within (x5c)":     {forger.sign(`{"alg":"RS256","kid":"k1","x5c":["MII="]}`, payload), notAToken},
		"critical extensions":            {key.sign(`{"alg":"RS256","kid":"k1","crit":["b64"],"b64":false}`, payload), notAToken},
		"an encrypted token's type":      {key.sign(`{"alg":"RS256","kid":"k1","typ":"JWE"}`, payload), notAToken},
		"signed by somebody else":        {forger.mint(apiClaims()), badSignature},
		"signed by somebody else, ES256": {ecForger.mint(apiClaims()), badSignature},
		"another payload":                {part[0] + "." + admin + "." + part[2], badSignature},
		"payload with white space more":  {part[0] + "." + b64([]byte(payload+" ")) + "." + part[2], badSignature},
		"payload with padding":           {part[0] + "." + part[1] + "==." + part[2], badSignature},
		"signature with padding":         {good + "==", notAToken},
		"signature with a line end":      {good + "\n", notAToken},
		"signature in standard base64":   {part[0] + "." + part[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(part[2]) + "+", notAToken},
		"signature not canonical":        {good[:len(good)-1] + next(good[len(good)-1]), notAToken},
		"signature cut":                  {part[0] + "." + part[1] + "." + b64(key.signature(part[0] + "." + part[1])[:250]), badSignature},
		"signature of zeroes":            {ecPart[0] + "." + ecPart[1] + "." + b64(make([]byte, 64)), badSignature}, // CVE-2022-21449
		"signature in DER":               {ecPart[0] + "." + ecPart[1] + "." + b64(append([]byte{0x30, 0x44}, make([]byte, 68)...)), badSignature},
		"signature with a byte more":     {ecPart[0] + "." + ecPart[1] + "." + b64(append(ec.signature(ecPart[0]+"."+ecPart[1]), 0)), badSignature},
		"no signature":                   {part[0] + "." + part[1] + ".", notAToken},
		"two parts":                      {part[0] + "." + part[1], notAToken},
		"four parts":                     {good + "." + part[2], notAToken},
		"five parts, as encrypted":       {good + ".e.e", notAToken},
		"only dots":                      {"..", notAToken},
		"a word":                         {"token", notAToken},
		"JSON serialization":             {`{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`, notAToken},
		"huge":                           {good + strings.Repeat("A", 17<<10), notAToken},
		"huge and signed":                {key.mint(apiClaims(func(c, _ map[string]any) { c["pad"] = strings.Repeat("A", 16<<10) })), notAToken},
		"header that is no JSON":         {key.sign(`alg=RS256`, payload), notAToken},
		"header with more behind":        {key.sign(key.header()+"{}", payload), notAToken},
		"header that is a list":          {key.sign(`["RS256"]`, payload), notAToken},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem(t, v, tokens{"vault": c.token}); got != c.want {
				t.Errorf("Verify() = %q, want %q", got, c.want)
			}
		})
	}
}

// next is the base64 digit after one, which differs in the bits that the
// signature's length leaves unused.
func next(digit byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(digits[strings.IndexByte(digits, digit)+1])
}

func TestSignedTokensThatAreNotVerified(t *testing.T) {
	key := p256(t, "k1")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key)))
	set := func(name string, value any) func(c, bound map[string]any) {
		return func(c, _ map[string]any) { c[name] = value }
	}
	without := func(names ...string) func(c, bound map[string]any) {
		return func(c, bound map[string]any) {
			for _, n := range names {
				delete(c, n)
				delete(bound, n)
			}
		}
	}
	renamed := func(from, to string) func(c, bound map[string]any) {
		return func(c, bound map[string]any) {
			for _, m := range []map[string]any{c, bound} {
				if value, there := m[from]; there {
					delete(m, from)
					m[to] = value
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(c, bound map[string]any)
		want   string
	}{
		"expired":                        {at("exp", -61*time.Second), expired},
		"expired at the epoch":           {set("exp", 0), expired},
		"not yet valid":                  {at("nbf", 62*time.Second), notYetValid},
		"issued in the future":           {at("iat", 62*time.Second), notYetValid},
		"no end":                         {without("exp"), notAToken},
		"no start":                       {without("nbf"), notAToken},
		"no time of issue":               {without("iat"), notAToken},
		"end as text":                    {set("exp", "4102444800"), notAToken},
		"end with a fraction":            {set("exp", 4102444800.5), notAToken},
		"end beyond 64 bits":             {set("exp", 1e30), notAToken},
		"negative end":                   {set("exp", -1), notAToken},
		"another issuer":                 {set("iss", issuer+"/"), wrongIssuer},
		"issuer in other letters":        {set("iss", strings.ToUpper(issuer)), wrongIssuer},
		"empty issuer":                   {set("iss", ""), wrongIssuer},
		"no issuer":                      {without("iss"), notAToken},
		"a list of issuers":              {set("iss", []string{issuer}), notAToken},
		"another audience":               {audience([]string{"aws"}), wrongAudience},
		"audience that begins alike":     {audience("vault.example"), wrongAudience},
		"audience in other letters":      {audience("Vault"), wrongAudience},
		"the API server's audience":      {audience([]string{issuer}), wrongAudience},
		"no audience":                    {without("aud"), notAToken},
		"audience null":                  {audience(nil), notAToken},
		"empty list of audiences":        {audience([]string{}), wrongAudience},
		"audience among other things":    {audience([]any{"vault", 1}), notAToken},
		"audience as an object":          {audience(map[string]any{"vault": true}), notAToken},
		"no subject":                     {without("sub"), notAToken},
		"not bound at all":               {without("kubernetes.io"), notBound},
		"bound to nothing":               {set("kubernetes.io", map[string]any{}), notBound},
		"bound by null":                  {set("kubernetes.io", nil), notBound},
		"bound by text":                  {set("kubernetes.io", "payments"), notAToken},
		"no pod, as kubectl asks for":    {without("pod", "node"), notBound},
		"no service account":             {without("serviceaccount"), notBound},
		"no namespace":                   {without("namespace"), notBound},
		"pod without UID":                {func(_, b map[string]any) { b["pod"] = map[string]any{"name": "api-0"} }, notBound},
		"pod with a number as UID":       {func(_, b map[string]any) { b["pod"] = map[string]any{"name": "api-0", "uid": 1} }, notAToken},
		"pod with empty UID":             {func(_, b map[string]any) { b["pod"] = map[string]any{"name": "api-0", "uid": ""} }, notBound},
		"service account with empty UID": {func(_, b map[string]any) { b["serviceaccount"] = map[string]any{"name": "api", "uid": ""} }, notBound},
		"pod as a list":                  {func(_, b map[string]any) { b["pod"] = []string{"api-0"} }, notAToken},
		"namespace as a number":          {func(_, b map[string]any) { b["namespace"] = 1 }, notAToken},
		"Kubernetes.io":                  {renamed("kubernetes.io", "Kubernetes.io"), notBound},
		"Kelvin sign in kubernetes.io":   {renamed("kubernetes.io", "\u212aubernetes.io"), notBound},
		"POD":                            {renamed("pod", "POD"), notBound},
		"long s in serviceaccount":       {renamed("serviceaccount", "\u017ferviceaccount"), notBound},
		"Namespace":                      {renamed("namespace", "Namespace"), notBound},
		"long s in iss":                  {renamed("iss", "i\u017f\u017f"), notAToken},
		"AUD":                            {renamed("aud", "AUD"), notAToken},
		"Exp":                            {renamed("exp", "Exp"), notAToken},
		"nested too deep":                {set("x", nested(9)), notAToken},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem(t, v, tokens{"vault": key.mint(apiClaims(c.change))}); got != c.want {
				t.Errorf("Verify() = %q, want %q", got, c.want)
			}
		})
	}
}

func nested(depth int) any {
	var v any = 1
	for range depth {
		v = []any{v}
	}
	return v
}

// Two readers of one text must not find two identities in it.
func TestPayloadsThatCanBeReadInTwoWays(t *testing.T) {
	key := p256(t, "k1")
	v := verifier(t, clusterOf(pod(nil)), newKeys(t, newSource(key)))
	good := encode(apiClaims())
	bound := `"kubernetes.io":{"namespace":"kube-system","pod":{"name":"x","uid":"x"},"serviceaccount":{"name":"admin","uid":"x"}}`
	for name, payload := range map[string]string{
		"two subjects":               `{"sub":"system:serviceaccount:kube-system:admin",` + good[1:],
		"two equal subjects":         `{"sub":"system:serviceaccount:payments:api",` + good[1:],
		"two kubernetes.io":          `{` + bound + `,` + good[1:],
		"two kubernetes.io, escaped": `{"\u006bubernetes.io":{},` + good[1:],
		"two namespaces":             strings.Replace(good, `"namespace":`, `"namespace":"kube-system","namespace":`, 1),
		"two pod names":              strings.Replace(good, `"name":"api-0"`, `"name":"api-1","name":"api-0"`, 1),
		"two audiences":              `{"aud":"aws",` + good[1:],
		"two that nobody knows":      `{"x":1,"x":2,` + good[1:],
		"another object behind":      good + good,
		"a comma at the end":         good[:len(good)-1] + ",}",
		"a comment":                  "/**/" + good,
		"a byte order mark":          "\ufeff" + good,
		"not UTF-8":                  strings.Replace(good, "api-0", "api-0\xff", 1),
		"cut":                        good[:len(good)-1],
		"a list":                     "[" + good + "]",
		"null":                       "null",
		"a control character":        strings.Replace(good, "payments", "pay\x00ments", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem(t, v, tokens{"vault": key.sign(key.header(), payload)}); got != notAToken {
				t.Errorf("Verify(%s) = %q, want %q", payload, got, notAToken)
			}
		})
	}
	// Names in other letters are other names: what counts is still there once.
	both := `{"Kubernetes.io":{"namespace":"kube-system"},"SUB":"x",` + good[1:]
	if got := problem(t, v, tokens{"vault": key.sign(key.header(), both)}); got != "" {
		t.Errorf("Verify(%s) = %q, want verified by the names as they are written", both, got)
	}
}
