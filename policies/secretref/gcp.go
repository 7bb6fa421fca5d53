package secretref

import (
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

const (
	gcpProvider = "gcp"
	gcpSecrets  = "secrets"
)

// gcpResource is the name of a version of a secret or parameter, with the
// lengths and letters that Google Cloud allows. The provider looks for the name
// at the end of the text only; a text with more in front of it is refused here.
var gcpResource = regexp.MustCompile(`^projects/([a-z0-9][a-z0-9.:-]{1,62})/` +
	`((?:secrets|locations/[a-z][a-z0-9-]{1,29}/secrets|locations/[a-z][a-z0-9-]{1,29}/parameters)/[A-Za-z0-9_-]{1,255})/` +
	`versions/([A-Za-z0-9_-]{1,63})$`)

// Modes as both YAML versions read them: 0 and three octal digits, or a decimal
// number.
var (
	octalMode   = regexp.MustCompile(`^0[0-7]{3}$`)
	decimalMode = regexp.MustCompile(`^[1-9][0-9]{0,2}$`)
)

// gcpScoping chooses whose credentials are used: the pod's or the provider's.
func gcpScoping() []string { return []string{"auth"} }

// gcpReader reads the syntax of
// github.com/GoogleCloudPlatform/secrets-store-csi-driver-provider-gcp: a list
// of maps, decoded with gopkg.in/yaml v2 or v3.
type gcpReader struct{}

func (gcpReader) vocabulary() vocabulary {
	return vocabulary{provider: gcpProvider, list: gcpSecrets, scoping: gcpScoping(), safe: gcpScoping(), inText: credentialText}
}

// Read implements Reader.
func (g gcpReader) Read(p Params) Reading {
	secrets, err := parseList(gcpSecrets, p.Parameters[gcpSecrets], parseGCPSecret)
	own := g.vocabulary().own(p, err)
	reading := own.reading()
	reading.Requests = own.requests(p, func() ([]secret, error) { return secrets, nil })
	return reading
}

func (g gcpReader) syntax() Syntax {
	return g.vocabulary().describe(Syntax{
		ID:   "gcp://<project>/[locations/<location>/]secrets/<secret>@<version>",
		File: "`path`, else `fileName`",
		Unparsed: []string{
			"any other parameter or field, such as `labels`", "a `mode` in quotes, or other than 0440 or 288",
		},
	})
}

// parseGCPSecret reads one entry. A key to extract is no part of the id: the
// provider fetches the whole secret, and older ones do not know the fields and
// deliver all of it.
func parseGCPSecret(n node) (secret, error) {
	f, err := n.fields("resourceName", "path", "fileName", "mode", "extractJSONKey", "extractYAMLKey", "decodeBase64")
	if err != nil {
		return secret{}, err
	}
	var resource, path, name, json, yml string
	if err := readAll(f.verbatim, field{"resourceName", &resource}, field{"path", &path}, field{"fileName", &name},
		field{"extractJSONKey", &json}, field{"extractYAMLKey", &yml}); err != nil {
		return secret{}, err
	}
	m := gcpResource.FindStringSubmatch(resource)
	switch {
	case m == nil:
		return secret{}, uncertain("a resourceName is not projects/../secrets/../versions/.. or one of its regional forms")
	case json != "" && yml != "":
		return secret{}, uncertain("an entry of secrets has extractJSONKey and extractYAMLKey")
	case path == "":
		path = name
	}
	if b, ok := f.nodes["decodeBase64"]; ok && (!b.plain("!!bool") || b.yaml.Value != "true" && b.yaml.Value != "false") {
		return secret{}, uncertain("decodeBase64 is neither true nor false")
	}
	mode, err := gcpMode(f)
	return secret{id: ID{Provider: gcpProvider, Backend: m[1], Path: m[2], Version: m[3]}, file: path, mode: mode}, err
}

// plain reports whether a scalar stands without quotes and is of a type.
func (n node) plain(tag string) bool {
	return n.yaml.Kind == yaml.ScalarNode && n.yaml.Style == 0 && n.yaml.Tag == tag && !n.decorated()
}

// gcpMode reads a mode that is a number, of which a leading 0 makes an octal one.
func gcpMode(f fields) (*uint32, error) {
	n, ok := f.nodes["mode"]
	if !ok {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	base := 10
	if octalMode.MatchString(n.yaml.Value) {
		base = 8
	}
	mode, err := strconv.ParseUint(n.yaml.Value, base, 32)
	if err != nil || !n.plain("!!int") || mode > 0o777 || base == 10 && !decimalMode.MatchString(n.yaml.Value) {
		return nil, uncertain("mode is neither 0 and three octal digits, such as 0440, nor a decimal number, without quotes")
	}
	return new(uint32(mode)), nil
}
