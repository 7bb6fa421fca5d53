package secretref

import (
	"regexp"
	"slices"
	"strings"
)

// passwordInURL stops at double quotes, which no URL has: in JSON the next text
// may hold the @.
var passwordInURL = regexp.MustCompile(`://[^/\s:@"]*:[^/\s@"]+@`)

// literalCredentials names the parameters that hold a credential in plain
// text, sorted. Only names leave: such a class is denied at both gates
// (PR-120), and the values reach nothing, not even a digest.
//
// It knows names and shapes, not secrets: a credential under a harmless name
// passes. A reader adds what its own provider's vocabulary hides.
func literalCredentials(parameters map[string]string) []string {
	var names []string
	for name, value := range parameters {
		if credentialValue(value) || credentialName(name) && !harmless(value) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// harmless reports whether a value is a switch or an empty default, which is
// no credential under any name.
func harmless(value string) bool {
	v := strings.TrimSpace(value)
	return v == "" || v == "true" || v == "false"
}

// credentialSuffixes end the normalized names of parameters that hold
// credentials: vaultToken, db-password, AKEYLESS_ACCESS_KEY. The names of
// references (tokenPath, passwordFile, secretName) end in another word.
func credentialSuffixes() []string {
	return []string{
		"password", "passwd", "passphrase", "token", "apikey", "privatekey", "secretkey", "accesskey",
		"secretaccesskey", "clientsecret", "appsecret", "sharedsecret", "secretid", "secretvalue",
		"credential", "credentials", "signingkey", "encryptionkey", "connectionstring", "authorization",
	}
}

// credentialName reports whether a parameter's name says that it holds a
// credential. Case and separators are ignored.
func credentialName(name string) bool {
	n := normalized(name)
	if n == "secret" || n == "jwt" || n == "pwd" || n == "pass" || n == "pin" {
		return true
	}
	return slices.ContainsFunc(credentialSuffixes(), func(s string) bool { return strings.HasSuffix(n, s) })
}

func normalized(name string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "", "/", "", " ", "").Replace(strings.ToLower(name))
}

// credentialValue recognizes private keys and URLs with a password, whatever
// the name of the parameter.
func credentialValue(value string) bool {
	return strings.Contains(value, "PRIVATE KEY-----") || passwordInURL.MatchString(value)
}
