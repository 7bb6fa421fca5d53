package secretref

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Fields of an object of the Vault providers.
const (
	fieldObjectName     = "objectName"
	fieldSecretPath     = "secretPath"
	fieldSecretKey      = "secretKey"
	fieldMethod         = "method"
	fieldSecretArgs     = "secretArgs"
	fieldFilePermission = "filePermission"
	fieldEncoding       = "encoding"
)

const (
	methodGet = "GET"
	// versionQuery chooses the version of a secret of the KV engine.
	versionQuery = "version"
)

var (
	vaultVersionPattern = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)
	vaultModePattern    = regexp.MustCompile(`^(?:0[0-7]{3}|[1-9][0-9]{0,3})$`)
)

// vaultObject is one entry of the objects of the Vault providers: a request to
// the server, and what becomes of the response.
type vaultObject struct {
	name      string
	path      string // of the request, below /v1/
	query     string // canonical
	arguments string // canonical JSON, without slashes
	version   string
	method    string
	key       string
	mode      *uint32
	// source is what the provider remembers a response by: it sends the first
	// of the requests that have it in common, whatever their arguments.
	source [2]string
}

// secret is the object as a secret at a backend. The method is an attribute of
// the backend, so that a grant for a path, however wide, does not let a class
// write there.
func (o vaultObject) secret(provider, backend string) secret {
	id := ID{Provider: provider, Backend: backend, Path: o.path, Key: o.key, Version: o.version}
	if o.method != methodGet {
		id.Backend += ",method=" + o.method
	}
	if o.query+o.arguments != "" {
		// An element of its own, so that a grant can cover them with "?/*". The
		// question mark stays with the path: a grant for what is below a path
		// must not cover the path itself with a query that the server ignores.
		id.Path += "?/" + o.query + o.arguments
	}
	return secret{id: id, file: o.name, mode: o.mode}
}

// parseVaultObjects reads the list as the providers do, or refuses it.
func parseVaultObjects(text string) ([]vaultObject, error) {
	objects, err := parseList(objectsParameter, text, parseVaultObject)
	arguments := map[[2]string]string{}
	for _, o := range objects {
		if first, ok := arguments[o.source]; ok && first != o.arguments {
			return nil, uncertain("two objects have the same secretPath and method, but not the same secretArgs: the provider would send only the first")
		}
		arguments[o.source] = o.arguments
	}
	return objects, err
}

func parseVaultObject(n node) (vaultObject, error) {
	f, err := n.fields(fieldObjectName, fieldSecretPath, fieldSecretKey, fieldMethod, fieldSecretArgs, fieldFilePermission, fieldEncoding)
	if err != nil {
		return vaultObject{}, err
	}
	var o vaultObject
	var encoding, path string
	if err := readAll(f.text, field{fieldObjectName, &o.name}, field{fieldSecretPath, &path}, field{fieldSecretKey, &o.key},
		field{fieldMethod, &o.method}, field{fieldEncoding, &encoding}); err != nil {
		return vaultObject{}, err
	}
	o.source = [2]string{path, o.method}
	if o.method == "" {
		o.method = methodGet
	}
	if o.mode, err = f.number(fieldFilePermission); err != nil {
		return vaultObject{}, err
	}
	if o.arguments, err = f.arguments(fieldSecretArgs); err != nil {
		return vaultObject{}, err
	}
	if err := o.setPath(path); err != nil {
		return vaultObject{}, err
	}
	return o, o.check(encoding)
}

// check refuses what the providers, or Vault, would refuse or read otherwise.
func (o vaultObject) check(encoding string) error {
	switch {
	case !validFile(o.name):
		return uncertain("an objectName is missing, or is no relative path for a file")
	case !slices.Contains([]string{methodGet, "LIST", "POST", "PUT"}, o.method):
		return uncertain("a method is not GET, LIST, POST or PUT")
	case !slices.ContainsFunc([]string{"", "utf-8", "base64", "hex"}, func(e string) bool { return strings.EqualFold(e, encoding) }):
		return uncertain("an encoding is not utf-8, base64 or hex")
	case credentialValue(o.name) || credentialValue(o.path) || credentialValue(o.key):
		return literal("an object holds a literal credential")
	// Half of an id is room for the backend.
	case len(ID{Path: o.path + o.query + o.arguments, Key: o.key}.String()) > maxIDBytes/2:
		return uncertain("a secretPath with its secretKey and secretArgs is too long")
	}
	return nil
}

// setPath splits secretPath as the providers do: the version prefix of Vault's
// API is added where it is missing, and a query is sent apart.
func (o *vaultObject) setPath(text string) error {
	path, query, hasQuery := strings.Cut(text, "?")
	switch {
	case strings.HasPrefix(path, "/v1/"):
		path = path[len("/v1/"):]
	case strings.HasPrefix(path, "v1/"):
		path = path[len("v1/"):]
	default:
		path = strings.TrimPrefix(path, "/")
	}
	if !validName(path) || strings.HasPrefix(path, "/") {
		return uncertain("a secretPath is missing, or has an empty element, . or .., % or \\")
	}
	o.path = path
	if !hasQuery {
		return nil
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) == 0 {
		return uncertain("the query of a secretPath is empty or cannot be read")
	}
	return o.setQuery(values)
}

func (o *vaultObject) setQuery(values url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains([]string{"list", "scan", "help"}, strings.ToLower(name)):
			return uncertain("the query of a secretPath makes it another request: use the method LIST to list")
		case !printable(name) || !printable(strings.Join(values[name], "")):
			return uncertain("the query of a secretPath has characters that cannot be printed")
		case credentialName(name) || slices.ContainsFunc(values[name], credentialArgument):
			return literal("the query of a secretPath holds a literal credential")
		}
	}
	version := values[versionQuery]
	if o.method != methodGet || o.arguments != "" || len(values) != 1 || len(version) != 1 {
		o.query = values.Encode()
		return nil
	}
	if !vaultVersionPattern.MatchString(version[0]) {
		return uncertain("the version in a secretPath is not a decimal number from 1")
	}
	o.version = version[0]
	return nil
}

// number returns a file mode that is a number, nil if it is absent. To yaml.v3,
// which decodes it into a number, 0440 is octal and 288 decimal; text in quotes
// it refuses.
func (f fields) number(name string) (*uint32, error) {
	n, ok := f.nodes[name]
	if !ok {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	if n.decorated() || n.yaml.Style != 0 || !vaultModePattern.MatchString(n.yaml.Value) {
		return nil, uncertain(name + " is not a plain number such as 0440: write it without quotes")
	}
	mode, err := strconv.ParseUint(n.yaml.Value, 0, 32)
	if err != nil || mode == 0 {
		return nil, uncertain(name + " is zero, which stands for the default: leave it out")
	}
	return new(uint32(mode)), nil
}
