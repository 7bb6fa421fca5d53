package secretref

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const azureProvider = "azure"

// Parameters of the Azure provider that an id is made of.
const (
	azureVault     = "keyvaultName"
	azureCloud     = "cloudName"
	azureCloudFile = "cloudEnvFileName"
)

// azureCustomCloud is the cloud that a file on the node describes.
const azureCustomCloud = "azurestackcloud"

// What the names of vaults, objects and versions consist of. The provider
// checks vaults only, and whether it escapes the rest depends on its version.
var (
	azureVaultPattern   = regexp.MustCompile(`^[A-Za-z0-9-]{3,24}$`)
	azureObjectPattern  = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	azureVersionPattern = regexp.MustCompile(`^[A-Za-z0-9-]{0,127}$`)
	azureModePattern    = regexp.MustCompile(`^[0-7]{3,4}$`)
)

// azureScoping choose the cloud, the vault and the identity.
func azureScoping() []string {
	return []string{
		azureVault, azureCloud, azureCloudFile, "tenantID", "tenantId", "clientID", "usePodIdentity", "useVMManagedIdentity",
		"userAssignedIdentityID", "useAzureTokenProxy", "usePodServiceAccountAnnotation",
	}
}

// azureLeftovers were needed before version 0.0.6. The name of a vault is
// unique in its cloud, so they never chose another one, and are ignored.
func azureLeftovers() []string { return []string{"resourceGroup", "subscriptionId"} }

// azureReader reads the syntax of
// github.com/Azure/secrets-store-csi-driver-provider-azure: a list of texts,
// each of which is YAML again, decoded with gopkg.in/yaml v2 or v3. The provider
// trims every value, also before it parses.
type azureReader struct{}

func (azureReader) vocabulary() vocabulary {
	return vocabulary{
		provider: azureProvider, list: objectsParameter, scoping: azureScoping(),
		safe: append(azureScoping(), azureLeftovers()...), trim: strings.TrimSpace, inText: credentialText,
	}
}

// Read implements Reader.
func (a azureReader) Read(p Params) Reading {
	objects, err := parseAzureObjects(p.Parameters[objectsParameter])
	own := a.vocabulary().own(p, err)
	reading := own.reading()
	reading.Requests = own.requests(p, func() ([]secret, error) {
		backend, err := azureBackend(reading.Scoping)
		secrets := make([]secret, len(objects))
		for i, o := range objects {
			secrets[i] = o.secret(backend)
		}
		return secrets, err
	})
	return reading
}

func (a azureReader) syntax() Syntax {
	return a.vocabulary().describe(Syntax{
		ID:   "azure://<cloudName>:<keyvaultName>[:<cloudEnvFileName>]/<objectType>/<objectName>[@<objectVersion>]",
		File: "`objectAlias`, else `objectName`",
		Unparsed: []string{
			"any other parameter or field, but for `resourceGroup` and `subscriptionId`", "`objectVersionHistory` above 1", "`objectNotAfter`",
			"`AzureStackCloud` without `cloudEnvFileName`", "an entry of `array` that is neither a block text nor in quotes",
		},
	})
}

// azureBackend is the cloud and the vault. A class that names no cloud gets
// whichever the provider was started for.
func azureBackend(set map[string]string) (string, error) {
	vault, cloud := set[azureVault], strings.ToLower(set[azureCloud])
	if !azureVaultPattern.MatchString(vault) {
		return "", uncertain("keyvaultName is missing, or is not the name of a key vault")
	}
	backend := cloud + ":" + strings.ToLower(vault)
	switch {
	case cloud == "":
		return defaultBackend + backend, nil
	case len(cloud) != len(set[azureCloud]): // letters beyond ASCII that become ASCII
		return "", uncertain("cloudName is not the name of a cloud")
	case cloud == "azurepubliccloud", cloud == "azureusgovernmentcloud", cloud == "azurechinacloud", cloud == "azuregermancloud":
		return backend, nil
	case cloud == azureCustomCloud && set[azureCloudFile] != "":
		return backend + ":" + set[azureCloudFile], nil
	case cloud == azureCustomCloud:
		return "", uncertain("cloudName AzureStackCloud without cloudEnvFileName is whatever cloud another class described")
	}
	return "", uncertain("cloudName is not the name of a cloud")
}

// azureObject is one entry of array.
type azureObject struct {
	name, alias, version, kind string
	mode                       *uint32
}

func (o azureObject) secret(backend string) secret {
	file := o.alias
	if file == "" {
		file = o.name
	}
	id := ID{
		Provider: azureProvider, Backend: backend,
		Path: o.kind + "/" + strings.ToLower(o.name), Version: strings.ToLower(o.version),
	}
	return secret{id: id, file: file, mode: o.mode}
}

func parseAzureObjects(text string) ([]azureObject, error) {
	// Trimmed, the first line would no longer be indented like the others.
	if strings.HasPrefix(strings.TrimLeft(text, "\r\n"), " ") {
		return nil, uncertain("objects begins with a space")
	}
	root, err := parseDocument(objectsParameter, text)
	if err != nil {
		return nil, err
	}
	f, err := root.fields("array")
	if err != nil {
		return nil, err
	}
	if !f.has("array") {
		return nil, uncertain("objects has no array")
	}
	return each(f.nodes["array"], parseAzureObject)
}

// parseAzureObject reads an entry of array, which is a text that is YAML.
func parseAzureObject(n node) (azureObject, error) {
	const entry = "an entry of array"
	y := n.yaml
	if y.Kind != yaml.ScalarNode || n.decorated() || y.Style != yaml.LiteralStyle && !quoted(y) {
		return azureObject{}, uncertain(entry + " is neither a block text, written as |, nor in quotes")
	}
	root, err := parseDocument(entry, y.Value)
	if err != nil {
		return azureObject{}, err
	}
	f, err := root.fields("objectName", "objectAlias", "objectVersion", "objectVersionHistory", "objectType", "objectFormat",
		"objectEncoding", "filePermission")
	if err != nil {
		return azureObject{}, err
	}
	var o azureObject
	var format, encoding, mode string // the first two choose the form of a file
	if err := readAll(f.trimmed, field{"objectName", &o.name}, field{"objectAlias", &o.alias}, field{"objectVersion", &o.version},
		field{"objectType", &o.kind}, field{"objectFormat", &format}, field{"objectEncoding", &encoding}, field{"filePermission", &mode}); err != nil {
		return azureObject{}, err
	}
	if o.mode, err = azureMode(mode); err != nil {
		return azureObject{}, err
	}
	return o, o.check(f)
}

// trimmed returns a field as verbatim does, or refuses it if the provider would
// take something off.
func (f fields) trimmed(name string) (string, error) {
	text, err := f.verbatim(name)
	if err == nil && strings.TrimSpace(text) != text {
		err = uncertain(name + " begins or ends with white space")
	}
	return text, err
}

// azureMode reads what is an octal number to the provider, quoted or not.
func azureMode(text string) (*uint32, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	if !azureModePattern.MatchString(text) {
		return nil, uncertain(`filePermission is not an octal number of three or four digits, such as "0440"`)
	}
	var mode uint32
	for _, digit := range text {
		mode = mode<<3 | uint32(digit-'0') //nolint:gosec // one octal digit
	}
	return &mode, nil
}

func (o azureObject) check(f fields) error {
	switch {
	case o.kind != "secret" && o.kind != "key" && o.kind != "cert":
		return uncertain("an objectType is none of secret, key and cert")
	case !azureObjectPattern.MatchString(o.name) || !azureVersionPattern.MatchString(o.version):
		return uncertain("an objectName or objectVersion is not one of Key Vault")
	}
	history, ok := f.nodes["objectVersionHistory"]
	if y := history.yaml; ok && (y.Tag != "!!int" || y.Style != 0 || history.decorated() || y.Value != "0" && y.Value != "1") {
		return uncertain("objectVersionHistory is not 0 or 1: how many files there are is for the vault to decide")
	}
	return nil
}
