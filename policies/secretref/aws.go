package secretref

import (
	"strings"
)

const awsProvider = "aws"

// Parameters of the AWS provider besides objects.
const (
	awsRegion          = "region"
	awsFailoverRegion  = "failoverRegion"
	awsPathTranslation = "pathTranslation"
)

// awsScoping choose the regions, and the agent that hands out credentials. The
// role is in the service account's annotation or in EKS.
func awsScoping() []string {
	return []string{awsRegion, awsFailoverRegion, "usePodIdentity", "preferredAddressType"}
}

// awsReader reads the syntax of
// github.com/aws/secrets-store-csi-driver-provider-aws: a list of maps, decoded
// with sigs.k8s.io/yaml, that is without regard to the case of field names.
type awsReader struct{}

func (awsReader) vocabulary() vocabulary {
	return vocabulary{
		provider: awsProvider, list: objectsParameter, scoping: awsScoping(),
		safe: append(awsScoping(), awsPathTranslation), inText: credentialText,
	}
}

// Read implements Reader.
func (a awsReader) Read(p Params) Reading {
	objects, err := parseAWSObjects(p.Parameters[objectsParameter])
	own := a.vocabulary().own(p, err)
	reading := own.reading()
	reading.Requests = own.requests(p, func() ([]secret, error) { return awsSecrets(own.values, objects) })
	return reading
}

func (a awsReader) syntax() Syntax {
	return a.vocabulary().describe(Syntax{
		ID:   "aws://[<account>:]<region>[+<failoverRegion>[=<failoverObject>]]/<objectType>/<objectName>[#<path>][@<version>]",
		File: "`objectAlias`, else `objectName`, `/` becomes `_` or `pathTranslation`; one more for each `objectAlias` of `jmesPath`",
		Unparsed: []string{
			"any other parameter or field", "`failoverObject` as a list", "a name without `objectType`", "an SSM parameter in two entries",
			"an SSM parameter below `/aws/reference/`", "numbers and booleans without quotes",
		},
	})
}

// awsObject is one entry of objects.
type awsObject struct {
	name, kind, alias, version, label string
	mode                              *uint32
	jmes                              []awsEntry
	failover                          *awsFailover
}

// awsEntry is a value in a JSON secret, which becomes a file of its own beside
// the whole one.
type awsEntry struct {
	path, alias string
	mode        *uint32
}

// awsFailover is what is fetched from the other region.
type awsFailover struct{ name, version, label string }

func parseAWSObjects(text string) ([]awsObject, error) {
	objects, err := parseList(objectsParameter, text, parseAWSObject)
	files := 0
	for _, o := range objects {
		if files += 1 + len(o.jmes); files > MaxObjects {
			return nil, &tooManyError{objectsParameter}
		}
	}
	return objects, err
}

func parseAWSObject(n node) (awsObject, error) {
	f, err := foldedFields(n, "objectName", "objectType", "objectAlias", "objectVersion", "objectVersionLabel",
		"filePermission", "jmesPath", "failoverObject")
	if err != nil {
		return awsObject{}, err
	}
	var o awsObject
	if err = readAll(f.text, field{"objectName", &o.name}, field{"objectType", &o.kind}, field{"objectAlias", &o.alias},
		field{"objectVersion", &o.version}, field{"objectVersionLabel", &o.label}); err != nil {
		return awsObject{}, err
	}
	if o.mode, err = awsMode(f); err != nil {
		return awsObject{}, err
	}
	if o.jmes, err = parseAWSEntries(f, o.mode); err != nil {
		return awsObject{}, err
	}
	o.failover, err = parseAWSFailover(f)
	return o, err
}

// awsMode: the provider takes a mode of nothing as none.
func awsMode(f fields) (*uint32, error) {
	if n, ok := f.nodes["filePermission"]; ok && n.yaml.Value == "" && quoted(n.yaml) {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	return f.mode("filePermission")
}

// parseAWSEntries reads jmesPath. Entries without a mode have their object's.
func parseAWSEntries(f fields, mode *uint32) ([]awsEntry, error) {
	n, ok := f.nodes["jmesPath"]
	if !ok {
		return nil, nil
	}
	return each(n, func(item node) (awsEntry, error) {
		f, err := foldedFields(item, "path", "objectAlias", "filePermission")
		if err != nil {
			return awsEntry{}, err
		}
		var e awsEntry
		if err = readAll(f.text, field{"path", &e.path}, field{"objectAlias", &e.alias}); err != nil {
			return awsEntry{}, err
		}
		if e.path == "" || e.alias == "" {
			return awsEntry{}, uncertain("an entry of jmesPath has no path or no objectAlias")
		}
		if e.mode, err = awsMode(f); e.mode == nil {
			e.mode = mode
		}
		return e, err
	})
}

func parseAWSFailover(f fields) (*awsFailover, error) {
	n, ok := f.nodes["failoverObject"]
	if !ok {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	f, err := foldedFields(n, "objectName", "objectVersion", "objectVersionLabel")
	if err != nil {
		return nil, err
	}
	var o awsFailover
	if err := readAll(f.text, field{"objectName", &o.name}, field{"objectVersion", &o.version}, field{"objectVersionLabel", &o.label}); err != nil {
		return nil, err
	}
	if o.name == "" {
		return nil, uncertain("failoverObject has no objectName")
	}
	return &o, nil
}

// foldedFields returns the fields of a map whose names are compared without
// regard to case, as encoding/json does, under their proper names.
func foldedFields(n node, known ...string) (fields, error) {
	all, err := n.anyFields()
	if err != nil {
		return fields{}, err
	}
	f := fields{name: all.name, nodes: make(map[string]node, len(all.nodes))}
	for _, name := range known {
		for spelling, value := range all.nodes {
			if !sameASCII(spelling, name) {
				continue
			}
			if f.has(name) {
				return fields{}, uncertain(n.name + " has a field twice")
			}
			value.name = name
			f.nodes[name] = value
		}
	}
	if len(f.nodes) != len(all.nodes) {
		return fields{}, uncertain(n.name + " has a field that is not known")
	}
	return f, nil
}

// sameASCII compares without regard to case, and without the letters beyond
// ASCII that fold to ASCII ones, of which libraries know different ones.
func sameASCII(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }
