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

// Read implements Reader.
func (awsReader) Read(p Params) Reading {
	objects, listErr := parseAWSObjects(p.Parameters[objectsParameter])
	own := ownParameters(p, objectsParameter, listErr)
	reading := Reading{
		TooMany:            tooMany(listErr),
		Scoping:            own.scoping(awsScoping(), asIs),
		Safe:               own.safe(awsScoping(), []string{awsPathTranslation}),
		LiteralCredentials: own.credentials,
	}
	err := own.check(objectsParameter, awsScoping(), []string{awsPathTranslation})
	if err == nil {
		err = listErr
	}
	var secrets []secret
	if err == nil {
		secrets, err = awsSecrets(own.values, objects)
	}
	reading.Requests = requestsOf(p, secrets, err)
	return reading
}

func (awsReader) syntax() Syntax {
	return Syntax{
		Provider: awsProvider, List: objectsParameter,
		ID:      "aws://[<account>:]<region>[+<failoverRegion>[=<failoverObject>]]/<objectType>/<objectName>[#<path>][@<version>]",
		File:    "`objectAlias`, else `objectName`, `/` becomes `_` or `pathTranslation`; one more for each `objectAlias` of `jmesPath`",
		Scoping: awsScoping(),
		Unparsed: []string{
			"any other parameter or field", "`failoverObject` as a list", "a name without `objectType`", "an SSM parameter in two entries",
			"an SSM parameter below `/aws/reference/`", "numbers and booleans without quotes",
		},
	}
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
	root, err := parseDocument(objectsParameter, text)
	if err != nil {
		return nil, err
	}
	entries, err := root.list()
	if err != nil {
		return nil, err
	}
	objects := make([]awsObject, len(entries))
	files := 0
	for i, n := range entries {
		if objects[i], err = parseAWSObject(n); err != nil {
			return nil, err
		}
		if files += 1 + len(objects[i].jmes); files > MaxObjects {
			return nil, &tooManyError{objectsParameter}
		}
	}
	return objects, nil
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
	list, err := n.list()
	if err != nil {
		return nil, err
	}
	entries := make([]awsEntry, len(list))
	for i, item := range list {
		f, err := foldedFields(item, "path", "objectAlias", "filePermission")
		if err != nil {
			return nil, err
		}
		e := awsEntry{}
		if err = readAll(f.text, field{"path", &e.path}, field{"objectAlias", &e.alias}); err != nil {
			return nil, err
		}
		if e.path == "" || e.alias == "" {
			return nil, uncertain("an entry of jmesPath has no path or no objectAlias")
		}
		if e.mode, err = awsMode(f); err != nil {
			return nil, err
		}
		if e.mode == nil {
			e.mode = mode
		}
		entries[i] = e
	}
	return entries, nil
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
