package secretref

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Names of akeylesslabs/akeyless-csi-provider, as in internal/config/config.go.
const (
	akeylessProvider = "akeyless"
	akeylessGateway  = "akeylessGatewayURL"
	// akeylessArgs begins the key of an id whose object has secretArgs.
	akeylessArgs = "args-"
)

// akeylessReader reads the parameters of Akeyless's provider. Every parameter
// that a class leaves out comes from the provider's own environment or flags.
type akeylessReader struct{}

func (akeylessReader) vocabulary() vocabulary {
	scoping := []string{
		"akeylessAccessID", "akeylessAccessType", "akeylessAzureObjectID", "akeylessGCPAudience", akeylessGateway,
		"akeylessK8sAuthConfigName", "vaultKubernetesMountPath",
	}
	return vocabulary{
		provider: akeylessProvider, list: objectsParameter, scoping: scoping, safe: scoping, addresses: []string{akeylessGateway},
		credentials: []string{"akeylessAccessKey", "akeylessUIDInitToken"}, inText: credentialText,
	}
}

// Read implements Reader.
func (a akeylessReader) Read(p Params) Reading {
	objects, err := parseList(objectsParameter, p.Parameters[objectsParameter], parseAkeyless)
	own := a.vocabulary().own(p, err)
	r := own.reading()
	var secrets []secret
	r.Requests = own.requests(p, func() (_ []secret, err error) {
		secrets, err = a.secrets(own.values[akeylessGateway], objects)
		return secrets, err
	})
	// The provider reports each secret by file and path.
	r.ObjectIDs = objectIDs(r.Requests, secrets, func(s secret) string { return s.file + ":/" + s.id.Path })
	return r
}

func (a akeylessReader) secrets(gateway string, objects []akeylessObject) ([]secret, error) {
	backend, err := a.backend(gateway)
	if err != nil {
		return nil, err
	}
	secrets := make([]secret, len(objects))
	seen := make(map[string]bool, len(objects))
	for i, o := range objects {
		if seen[o.path] {
			return nil, uncertain("a secretPath is listed twice, and the provider writes one file for it")
		}
		seen[o.path] = true
		id := ID{Provider: akeylessProvider, Backend: backend, Path: strings.TrimPrefix(o.path, "/"), Key: o.args}
		secrets[i] = secret{id: id, file: o.file}
	}
	return secrets, nil
}

func (akeylessReader) backend(address string) (string, error) {
	if address == "" {
		return defaultBackend, nil
	}
	e, err := parseEndpoint(akeylessGateway, address)
	if err != nil {
		return "", err
	}
	if e.String() == defaultBackend {
		return "", uncertain(akeylessGateway + " has the host default, the name of the provider's own gateway")
	}
	return e.String(), nil
}

// akeylessObject is one entry of the list.
type akeylessObject struct{ path, file, args string }

func parseAkeyless(n node) (akeylessObject, error) {
	// secretType is read by no version of the provider.
	f, err := n.fields("secretPath", "fileName", "secretType", "secretArgs")
	if err != nil {
		return akeylessObject{}, err
	}
	var o akeylessObject
	var ignored string
	if err := readAll(f.text, field{"secretPath", &o.path}, field{"fileName", &o.file}, field{"secretType", &ignored}); err != nil {
		return akeylessObject{}, err
	}
	switch {
	// Akeyless may add the slash itself, and one secret would have two ids.
	case !validName(o.path) || !strings.HasPrefix(o.path, "/"):
		return akeylessObject{}, uncertain(`a secretPath is not a full path that begins with a slash, or has % ? \ or an empty, . or .. element`)
	case !validFile(o.file):
		return akeylessObject{}, uncertain("a fileName is missing, or not a relative path below the volume")
	}
	o.args, err = akeylessDigest(f)
	return o, err
}

// akeylessDigest returns the key for the secretArgs, "" without any. The
// provider takes them and does nothing with them yet; one that does would
// deliver another secret, so that they are part of the id.
func akeylessDigest(f fields) (string, error) {
	n, ok := f.nodes["secretArgs"]
	if !ok {
		return "", nil
	}
	nodes, err := n.anyFields()
	if err != nil {
		return "", err
	}
	if len(nodes.nodes) == 0 {
		return "", nil
	}
	args := make(map[string]string, len(nodes.nodes))
	// In order, so that the same text always has the same problem.
	for _, name := range slices.Sorted(maps.Keys(nodes.nodes)) {
		value := nodes.nodes[name]
		if credentialName(name) {
			return "", literal("secretArgs hold a literal credential")
		}
		value.name = "an entry of secretArgs" // its name is the author's own text
		if args[name], err = value.text(); err != nil {
			return "", err
		}
		if credentialArgument(args[name]) {
			return "", literal("secretArgs hold a literal credential")
		}
	}
	canonical, err := json.Marshal(args)
	if err != nil {
		return "", uncertain("secretArgs cannot be digested")
	}
	sum := sha256.Sum256(canonical)
	return akeylessArgs + hex.EncodeToString(sum[:])[:backendDigits], nil
}

func (a akeylessReader) syntax() Syntax {
	return a.vocabulary().describe(Syntax{
		ID:   "akeyless://<akeylessGatewayURL, or default>/<secretPath without its first slash>[#args-<digest of secretArgs>]",
		File: "`fileName`",
		Unparsed: []string{
			"any parameter but these and `objects`", "a `secretPath` without its first slash, or listed twice",
			"`objectName`, which older versions read as the file's name",
		},
	})
}
