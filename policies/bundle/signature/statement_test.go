package signature_test

import (
	"fmt"
	"strings"
)

// hostileStatements are what an envelope may hold before anybody has looked at its
// signature. A bundle's own JSON is bounded in depth; what is Base64 in it is not.
func hostileStatements(digest string) map[string]string {
	statement := func(subject, predicate string) string {
		return `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://sigstore.dev/cosign/sign/v1","subject":` + subject + `,"predicate":` + predicate + `}`
	}
	right := `[{"digest":{"sha256":"` + digest + `"}}]`
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	var many strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&many, `{"name":"n%d","digest":{"sha256":"%064x"}},`, i, i)
	}
	return map[string]string{
		"nothing":                  "",
		"no JSON":                  "\x00\xff",
		"null":                     "null",
		"a list":                   "[]",
		"nested":                   statement(right, deep(20_000)),
		"nested lists":             statement(right, strings.Repeat("[", 80_000)+strings.Repeat("]", 80_000)),
		"nested subject":           statement(deep(20_000), "{}"),
		"a long list":              statement(right, `{"a":[`+strings.Repeat("1,", 80_000)+`1]}`),
		"many subjects":            statement("["+strings.TrimSuffix(many.String(), ",")+"]", "{}"),
		"no subject":               statement("[]", "{}"),
		"null subject":             statement("[null]", "{}"),
		"no digest":                statement("[{}]", "{}"),
		"a digest of nothing":      statement(`[{"digest":{"sha256":""}}]`, "{}"),
		"a digest that is no hash": statement(`[{"digest":{"sha256":"zz"}}]`, "{}"),
		"a short digest":           statement(`[{"digest":{"sha256":"00"}}]`, "{}"),
		"two digests of one":       statement(`[{"digest":{"sha256":"`+digest+`","sha256":"`+strings.Repeat("0", 64)+`"}}]`, "{}"),
		"the subject twice":        `{"subject":` + right + `,"subject":` + right + `}`,
		"two values":               statement(right, "{}") + statement(right, "{}"),
	}
}
