package secretref

import (
	"regexp"
	"strings"
)

// The two services, as they stand in ids and in objectType.
const (
	secretsManager = "secretsmanager"
	ssmParameter   = "ssmparameter"
)

// What names consist of according to AWS. A comma is in none of them, nor a
// colon: "name:3" is version 3 of a parameter.
var (
	awsRegionPattern  = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`)
	awsARNPattern     = regexp.MustCompile(`^arn:aws[a-z-]*:(secretsmanager|ssm):([a-z0-9-]+):([0-9]{12}):(?:secret:|parameter/)([^:]+)$`)
	awsSecretPattern  = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!-]+$`)
	awsSSMPattern     = regexp.MustCompile(`^[A-Za-z0-9/_.-]+$`)
	awsVersionPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,256}$`)
)

// awsReference begins the names of parameters that are secrets of Secrets
// Manager.
const awsReference = "aws/reference/"

// awsName is an objectName as AWS understands it. account and region are empty
// unless it is an ARN.
type awsName struct{ service, account, region, name string }

// parseAWSName reads the name of an object in a region, "" if that is not known.
func parseAWSName(text, kind, region string) (awsName, error) {
	n := awsName{service: kind, name: text}
	if strings.HasPrefix(text, "arn:") {
		m := awsARNPattern.FindStringSubmatch(text)
		if m == nil || (m[1] == secretsManager) != strings.Contains(text, ":secret:") {
			return awsName{}, uncertain("an objectName is not an ARN of a secret or of a parameter")
		}
		n = awsName{service: m[1], region: m[2], account: m[3], name: m[4]}
		if n.service == "ssm" {
			n.service = ssmParameter
		}
		if n.service == ssmParameter && n.name[0] == '/' {
			return awsName{}, uncertain("an ARN of a parameter has two slashes: name it parameter/a/b")
		}
		if kind != "" && kind != n.service || region != "" && region != n.region || !awsRegionPattern.MatchString(n.region) {
			return awsName{}, uncertain("an ARN is not of the objectType or the region that the class names")
		}
	}
	pattern := awsSecretPattern
	switch n.service {
	case secretsManager:
	case ssmParameter:
		pattern = awsSSMPattern
	default:
		return awsName{}, uncertain("an objectType is neither secretsmanager nor ssmparameter, and objectName is no ARN")
	}
	if !validName(n.name) || !pattern.MatchString(n.name) {
		return awsName{}, uncertain("an objectName has a character or an element that is not part of AWS names")
	}
	if n.service == ssmParameter && strings.HasPrefix(strings.ToLower(strings.TrimPrefix(n.name, "/")), awsReference) {
		return awsName{}, uncertain("an objectName below /aws/reference/ is a secret of Secrets Manager: name that")
	}
	return n, nil
}

// awsClass is what the parameters besides objects say.
type awsClass struct{ region, failoverRegion, translate string }

func parseAWSClass(values map[string]string) (awsClass, error) {
	c := awsClass{region: values[awsRegion], failoverRegion: values[awsFailoverRegion], translate: values[awsPathTranslation]}
	for _, region := range []string{c.region, c.failoverRegion} {
		if region != "" && !awsRegionPattern.MatchString(region) {
			return awsClass{}, uncertain("a region is not the name of an AWS region")
		}
	}
	if c.failoverRegion != "" && c.failoverRegion == c.region {
		return awsClass{}, uncertain("failoverRegion is the region itself")
	}
	switch {
	case c.translate == "":
		c.translate = "_"
	case strings.ToLower(c.translate) == "false":
		c.translate = ""
	case len(c.translate) != 1:
		return awsClass{}, uncertain("pathTranslation is neither False nor one character")
	}
	return c, nil
}

// file is the name that the provider gives to a file.
func (c awsClass) file(name string) string {
	if c.translate == "" {
		return strings.TrimLeft(name, "/")
	}
	return strings.ReplaceAll(name, "/", c.translate)
}

// awsSecrets returns the files of each object: the whole secret, and those of
// its jmesPath.
func awsSecrets(values map[string]string, objects []awsObject) ([]secret, error) {
	class, err := parseAWSClass(values)
	if err != nil {
		return nil, err
	}
	var secrets []secret
	parameters := make(map[string]bool)
	for _, o := range objects {
		id, names, err := o.id(class)
		if err != nil {
			return nil, err
		}
		// The provider finds the object of an answer by the parameter's name
		// alone, in both regions: of two versions one would be in both files.
		for _, name := range names {
			if parameters[name] {
				return nil, uncertain("two entries of objects are one SSM parameter")
			}
			parameters[name] = true
		}
		file := o.alias
		if file == "" {
			file = o.name
		}
		secrets = append(secrets, secret{id: id, file: class.file(file), mode: o.mode})
		for _, e := range o.jmes {
			key := id
			key.Key = e.path
			secrets = append(secrets, secret{id: key, file: class.file(e.alias), mode: e.mode})
		}
	}
	return secrets, nil
}

// id returns the id of the whole secret, and if it is a parameter the names by
// which the provider finds it in each region.
func (o awsObject) id(class awsClass) (ID, []string, error) {
	n, err := parseAWSName(o.name, o.kind, class.region)
	if err != nil {
		return ID{}, nil, err
	}
	if !awsVersionPattern.MatchString(o.version) || !awsVersionPattern.MatchString(o.label) {
		return ID{}, nil, uncertain("an objectVersion or objectVersionLabel has a character that is not part of one")
	}
	backend, other, err := o.backend(class, n)
	if err != nil {
		return ID{}, nil, err
	}
	id := ID{Provider: awsProvider, Backend: backend, Path: n.service + "/" + n.name, Version: o.version}
	if n.service == secretsManager {
		if o.label != "" {
			id.Version = strings.TrimPrefix(o.version+",label="+o.label, ",")
		}
		return id, nil, nil
	}
	if o.version != "" && o.label != "" {
		return ID{}, nil, uncertain("an SSM parameter has objectVersion and objectVersionLabel")
	}
	id.Version += o.label // a parameter is asked for as name:version or name:label
	return id, []string{"primary " + strings.TrimPrefix(n.name, "/"), "failover " + strings.TrimPrefix(other, "/")}, nil
}

// backend is where an object is fetched from, in both regions, and the name in
// the second one. An object that is another one there is part of the backend:
// below a path it could hide behind a grant for the path.
func (o awsObject) backend(class awsClass, n awsName) (backend, other string, err error) {
	backend, other = defaultBackend, n.name
	switch {
	case n.account != "":
		backend = n.account + ":" + n.region
	case class.region != "":
		backend = class.region
	}
	if class.failoverRegion != "" {
		backend += "+" + class.failoverRegion
	}
	if o.failover == nil {
		return backend, other, nil
	}
	f := *o.failover
	if class.failoverRegion == "" || o.alias == "" || f.version != o.version || !awsVersionPattern.MatchString(f.label) {
		return "", "", uncertain("failoverObject needs failoverRegion, objectAlias and the same objectVersion")
	}
	there, err := parseAWSName(f.name, o.kind, class.failoverRegion)
	if err != nil {
		return "", "", err
	}
	if there.service != n.service || f.label != "" && n.service == ssmParameter && f.version != "" {
		return "", "", uncertain("failoverObject is of another objectType, or has a version and a label")
	}
	backend += "=" + f.name
	if f.label != "" && f.label != o.label {
		backend += "," + f.label
	}
	return backend, there.name, nil
}
