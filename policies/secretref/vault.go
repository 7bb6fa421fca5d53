package secretref

import (
	"slices"
	"strconv"
)

const (
	vaultProvider   = "vault"
	openbaoProvider = "openbao"
)

// Settings of the Vault providers. As a parameter each has a prefix.
const (
	vaultAddress    = "Address"
	vaultNamespace  = "Namespace"
	vaultSkipVerify = "SkipTLSVerify"
	vaultAuthMount  = "AuthMountPath"
	vaultKubeMount  = "KubernetesMountPath"
)

// vaultReader reads the parameters of hashicorp/vault-csi-provider 1.4 to 1.7
// and of its fork openbao/openbao-csi-provider 2.0 (older ones were registered
// as vault). Both decode objects with yaml.v3 into the same struct, by names in
// exact case; they differ in the names of parameters.
type vaultReader struct {
	provider string
	// prefixes of the settings, all of which the provider takes.
	prefixes []string
	// roles are the parameters that name the role of the login.
	roles []string
	// ignored are parameters of releases that read another list than we do.
	ignored []string
}

func vaultReaders() []described {
	return []described{
		vaultReader{
			provider: vaultProvider, prefixes: []string{"vault"}, roles: []string{"roleName"},
			ignored: []string{"vaultCAPem", "kubernetesServiceAccountPath", "KubernetesServiceAccountPath"},
		},
		vaultReader{
			provider: openbaoProvider, prefixes: []string{"bao", "openbao", "vault"},
			roles: []string{"roleName", "openbaoRoleName", "vaultRoleName"},
		},
	}
}

// vaultSettings are the settings of both providers.
func vaultSettings() []string {
	return []string{
		vaultAddress, vaultNamespace, vaultAuthMount, vaultKubeMount, "CACertPath", "CADirectory",
		"TLSServerName", "TLSClientCertPath", "TLSClientKeyPath", vaultSkipVerify,
	}
}

func (v vaultReader) vocabulary() vocabulary {
	return vocabulary{
		provider: v.provider, list: objectsParameter, scoping: v.scopes(), safe: slices.Sorted(slices.Values(v.scopes())),
		addresses: v.names(vaultAddress), others: v.ignored, inText: vaultCredentialText,
	}
}

// Read implements Reader.
func (v vaultReader) Read(p Params) Reading {
	objects, err := parseVaultObjects(p.Parameters[objectsParameter])
	own := v.vocabulary().own(p, err)
	reading := own.reading()
	v.oneSpelling(reading.Scoping)
	reading.Requests = own.requests(p, func() ([]secret, error) {
		if err := v.check(own.values); err != nil {
			return nil, err
		}
		backend, err := vaultBackend(v.value(own.values, vaultAddress), v.value(own.values, vaultNamespace))
		secrets := make([]secret, len(objects))
		for i, o := range objects {
			secrets[i] = o.secret(v.provider, backend)
		}
		return secrets, err
	})
	return reading
}

// names are the parameters that hold a setting.
func (v vaultReader) names(setting string) []string {
	names := make([]string, len(v.prefixes))
	for i, prefix := range v.prefixes {
		names[i] = prefix + setting
	}
	return names
}

// value is that of a setting, "" if it is absent. check has seen to it that at
// most one parameter holds it.
func (v vaultReader) value(parameters map[string]string, setting string) string {
	for _, name := range v.names(setting) {
		if parameters[name] != "" {
			return parameters[name]
		}
	}
	return ""
}

// groups are the parameters of which at most one may be there: the providers
// refuse two mount paths, and which of two prefixes goes first depends on the
// release.
func (v vaultReader) groups() [][]string {
	groups := [][]string{v.roles, {"audience"}}
	mounts := v.names(vaultAuthMount)
	for _, setting := range vaultSettings() {
		switch setting {
		case vaultAuthMount:
		case vaultKubeMount:
			mounts = append(mounts, v.names(setting)...)
		default:
			groups = append(groups, v.names(setting))
		}
	}
	return append(groups, mounts)
}

// scopes are all parameters that choose the backend, or the identity there.
func (v vaultReader) scopes() []string { return slices.Concat(v.groups()...) }

// oneSpelling rewrites the switch in scoping, so that a rule about it cannot be
// evaded by "T".
func (v vaultReader) oneSpelling(scoping map[string]string) {
	for _, name := range v.names(vaultSkipVerify) {
		if on, err := strconv.ParseBool(scoping[name]); err == nil {
			scoping[name] = strconv.FormatBool(on)
		}
	}
}

// check refuses parameters that the provider refuses, or may read in a way that
// we do not know.
func (v vaultReader) check(parameters map[string]string) error {
	for _, group := range v.groups() {
		set := 0
		for _, name := range group {
			if _, ok := parameters[name]; ok {
				set++
			}
		}
		if set > 1 {
			return uncertain("two parameters hold the same setting of provider " + v.provider + ": remove one")
		}
	}
	for _, name := range v.names(vaultSkipVerify) {
		if text, ok := parameters[name]; ok {
			if _, err := strconv.ParseBool(text); err != nil {
				return uncertain(vaultSkipVerify + ` is not a switch: set it to "true" or "false"`)
			}
		}
	}
	if !slices.ContainsFunc(v.roles, func(name string) bool { return parameters[name] != "" }) {
		return uncertain("roleName is missing or empty")
	}
	return nil
}

func (v vaultReader) syntax() Syntax {
	prefix := v.prefixes[0]
	return v.vocabulary().describe(Syntax{
		ID: v.provider + "://<" + prefix + "Address>[,scheme=http][,namespace=<" + prefix + "Namespace>][,method=<method>]" +
			"/<secretPath>[?/<query><secretArgs>][#<secretKey>][@<version>]",
		File: "`objectName`",
		Unparsed: []string{
			"parameters and fields that are not known", "one setting under two names", "addresses other than `http(s)://host[:port][/path]`",
			"a `secretPath` with an empty element, `.`, `..`, `%` or `\\`", "methods other than GET, LIST, POST and PUT",
			"`filePermission` in quotes", "one `secretPath` and `method` with two `secretArgs`",
		},
	})
}
