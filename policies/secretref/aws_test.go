package secretref_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// awsDescriptor is what the provider decodes an entry of objects into.
type awsDescriptor struct {
	ObjectName         string         `json:"objectName"`
	ObjectAlias        string         `json:"objectAlias"`
	ObjectVersion      string         `json:"objectVersion"`
	ObjectVersionLabel string         `json:"objectVersionLabel"`
	ObjectType         string         `json:"objectType"`
	FilePermission     string         `json:"filePermission"`
	JMESPath           []awsJMESEntry `json:"jmesPath"`
	FailoverObject     awsOther       `json:"failoverObject"`
}

type awsJMESEntry struct {
	Path           string `json:"path"`
	ObjectAlias    string `json:"objectAlias"`
	FilePermission string `json:"filePermission"`
}

type awsOther struct {
	ObjectName         string `json:"objectName"`
	ObjectVersion      string `json:"objectVersion"`
	ObjectVersionLabel string `json:"objectVersionLabel"`
}

var errRefused = errors.New("the provider refuses")

func awsCloud() cloud {
	return cloud{
		provider: "aws", list: "objects", oracles: []oracle{{"the provider", deliverAWS}}, fetch: fetchAWS,
		base:       map[string]string{"objects": "- objectName: a\n  objectType: secretsmanager\n"},
		credential: "- objectName: a\n  objectType: secretsmanager\n  jmesPath: [{path: \"%s\", objectAlias: b}]\n",
	}
}

// deliverAWS does as the provider's server and descriptors do, on a node of the
// region that the class's ARNs are of if it names none.
func deliverAWS(parameters map[string]string) ([]delivery, error) {
	var descriptors []*awsDescriptor
	if err := sigsyaml.Unmarshal([]byte(parameters["objects"]), &descriptors); err != nil {
		return nil, err
	}
	translate := parameters["pathTranslation"]
	switch {
	case translate == "":
		translate = "_"
	case strings.ToLower(translate) == "false":
		translate = ""
	case len(translate) != 1:
		return nil, errRefused
	}
	var out []delivery
	found := map[string]*awsDescriptor{} // by a parameter's name in an answer
	for _, d := range descriptors {
		if d == nil {
			return nil, errRefused
		}
		if service, _ := d.service(); service == "ssmparameter" {
			found[d.ObjectName] = d
		}
	}
	for _, d := range descriptors {
		if service, _ := d.service(); service == "ssmparameter" {
			d = found[d.ObjectName]
		}
		files, err := d.deliver(parameters["region"], parameters["failoverRegion"], translate)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}

// service returns the service, and the region of an ARN.
func (d *awsDescriptor) service() (service, region string) {
	service = d.ObjectType
	if parts := strings.SplitN(d.ObjectName, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		region = parts[3]
		if service == "" {
			service = parts[2]
		}
	}
	if service == "ssm" {
		service = "ssmparameter"
	}
	return service, region
}

func (d *awsDescriptor) deliver(region, failover, translate string) ([]delivery, error) {
	service, home := d.service()
	other := d.FailoverObject
	switch {
	case service != "secretsmanager" && service != "ssmparameter", home != "" && region != "" && home != region:
		return nil, errRefused
	case service == "ssmparameter" && d.ObjectVersion != "" && d.ObjectVersionLabel != "":
		return nil, errRefused
	case other.ObjectName != "" && (failover == "" || d.ObjectAlias == "" || other.ObjectVersion != d.ObjectVersion):
		return nil, errRefused
	}
	if region == "" {
		region = home
	}
	calls := []string{awsCall(region, service, d.ObjectName, d.ObjectVersion, d.ObjectVersionLabel)}
	if failover != "" {
		name, version, label := d.ObjectName, d.ObjectVersion, d.ObjectVersionLabel
		if other.ObjectName != "" {
			name = other.ObjectName
		}
		if other.ObjectVersion != "" {
			version = other.ObjectVersion
		}
		if other.ObjectVersionLabel != "" {
			label = other.ObjectVersionLabel
		}
		calls = append(calls, awsCall(failover, service, name, version, label))
	}
	file := func(name string) string {
		if translate != "" {
			return strings.ReplaceAll(name, "/", translate)
		}
		return strings.TrimLeft(name, "/")
	}
	name := d.ObjectAlias
	if name == "" {
		name = d.ObjectName
	}
	fetch := strings.Join(calls, " or ")
	out := []delivery{{Fetch: fetch, File: file(name), Mode: d.FilePermission}}
	for _, e := range d.JMESPath {
		if e.Path == "" || e.ObjectAlias == "" {
			return nil, errRefused
		}
		mode := e.FilePermission
		if mode == "" {
			mode = d.FilePermission
		}
		out = append(out, delivery{Fetch: fetch + " of it " + e.Path, File: file(e.ObjectAlias), Mode: mode})
	}
	for _, o := range out {
		if _, err := strconv.ParseUint(o.Mode, 8, 32); o.Mode != "" && (err != nil || len(o.Mode) != 4) {
			return nil, errRefused
		}
	}
	return out, nil
}

// The partition follows from the region.
var partition = regexp.MustCompile(`^arn:aws[a-z-]*:`)

// awsCall is the call of the service's API in a region, "" if the node's.
func awsCall(region, service, name, version, label string) string {
	name = partition.ReplaceAllString(name, "arn:aws:")
	if service == "ssmparameter" {
		selector := version
		if selector == "" {
			selector = label
		}
		return fmt.Sprintf("[%s] GetParameters(%q)", region, name+":"+selector)
	}
	return fmt.Sprintf("[%s] GetSecretValue(%q, %q, %q)", region, name, version, label)
}

// fetchAWS turns an id back into calls.
func fetchAWS(id secretref.ID) string {
	regions, other, hasOther := strings.Cut(id.Backend, "=")
	other, otherLabel, _ := strings.Cut(other, ",")
	region, failover, _ := strings.Cut(regions, "+")
	account, home, isARN := strings.Cut(region, ":")
	service, name, _ := strings.Cut(id.Path, "/")
	switch {
	case isARN && service == "ssmparameter":
		region, name = home, "arn:aws:ssm:"+home+":"+account+":parameter/"+name
	case isARN:
		region, name = home, "arn:aws:secretsmanager:"+home+":"+account+":secret:"+name
	case region == "default":
		region = ""
	}
	version, label, _ := strings.Cut(","+id.Version, ",label=")
	version = strings.TrimPrefix(version, ",")
	if strings.HasPrefix(id.Version, "label=") {
		version, label = "", strings.TrimPrefix(id.Version, "label=")
	}
	calls := []string{awsCall(region, service, name, version, label)}
	if failover != "" {
		if hasOther {
			name = other
		}
		if otherLabel != "" {
			label = otherLabel
			if service == "ssmparameter" {
				version = ""
			}
		}
		calls = append(calls, awsCall(failover, service, name, version, label))
	}
	fetch := strings.Join(calls, " or ")
	if id.Key != "" {
		fetch += " of it " + id.Key
	}
	return fetch
}

func TestAWS(t *testing.T) {
	const sm, ssm = "\n  objectType: secretsmanager", "\n  objectType: ssmparameter"
	for _, test := range []struct {
		name, objects string
		changes       []string
		want          []policies.Request
	}{
		{"region", "- objectName: a" + sm, []string{"region", "eu-west-1"}, []policies.Request{ask("aws://eu-west-1/secretsmanager/a", "a")}},
		{"region of the node", "- objectName: a" + sm, nil, []policies.Request{ask("aws://default/secretsmanager/a", "a")}},
		{"government region", "- objectName: a" + sm, []string{"region", "us-gov-west-1"}, []policies.Request{ask("aws://us-gov-west-1/secretsmanager/a", "a")}},
		{"ARN", "- objectName: arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1-AbCdEf\n  objectAlias: db", nil,
			[]policies.Request{ask("aws://111122223333:eu-west-1/secretsmanager/rds%21db-1-AbCdEf", "db")}},
		{"ARN of another partition", "- objectName: arn:aws-cn:secretsmanager:cn-north-1:111122223333:secret:a\n  objectAlias: a", nil,
			[]policies.Request{ask("aws://111122223333:cn-north-1/secretsmanager/a", "a")}},
		{"ARN of a parameter", "- objectName: arn:aws:ssm:eu-west-1:111122223333:parameter/prod/db\n  objectAlias: db", []string{"region", "eu-west-1"},
			[]policies.Request{ask("aws://111122223333:eu-west-1/ssmparameter/prod/db", "db")}},
		{"parameter", "- objectName: /prod/db" + ssm, nil, []policies.Request{ask("aws://default/ssmparameter//prod/db", "_prod_db")}},
		{"parameter without translation", "- objectName: /prod/db" + ssm, []string{"pathTranslation", "fAlse"},
			[]policies.Request{ask("aws://default/ssmparameter//prod/db", "prod/db")}},
		{"parameter's version", "- objectName: a\n  objectVersion: \"3\"" + ssm, nil, []policies.Request{ask("aws://default/ssmparameter/a@3", "a")}},
		{"parameter's label is asked for like a version", "- objectName: a\n  objectVersionLabel: \"3\"" + ssm, nil, []policies.Request{ask("aws://default/ssmparameter/a@3", "a")}},
		{"version", "- objectName: a\n  objectVersion: v-1" + sm, nil, []policies.Request{ask("aws://default/secretsmanager/a@v-1", "a")}},
		{"label is no version", "- objectName: a\n  objectVersionLabel: v-1" + sm, nil, []policies.Request{ask("aws://default/secretsmanager/a@label=v-1", "a")}},
		{"version and label", "- objectName: a\n  objectVersion: v-1\n  objectVersionLabel: l" + sm, nil, []policies.Request{ask("aws://default/secretsmanager/a@v-1,label=l", "a")}},
		{"both regions", "- objectName: a" + sm, []string{"region", "us-east-1", "failoverRegion", "us-east-2"}, []policies.Request{ask("aws://us-east-1+us-east-2/secretsmanager/a", "a")}},
		{"another secret in the other region", "- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: b/c, objectVersionLabel: l}" + sm,
			[]string{"failoverRegion", "us-east-2"}, []policies.Request{ask("aws://default+us-east-2=b%2Fc,l/secretsmanager/a", "f")}},
		{"values of a secret", "- objectName: a" + sm + "\n  filePermission: \"0440\"\n  jmesPath:\n  - {path: user, objectAlias: u/v}\n  - {path: '\"a-b\"', objectAlias: w, filePermission: \"0400\"}", nil,
			[]policies.Request{ask("aws://default/secretsmanager/a", "a", mode(0o440)), ask("aws://default/secretsmanager/a#user", "u_v", mode(0o440)),
				ask("aws://default/secretsmanager/a#%22a-b%22", "w", mode(0o400))}},
		{"fields in another case", "- OBJECTNAME: a\n  objecttype: secretsmanager\n  ObjectAlias: b", nil, []policies.Request{ask("aws://default/secretsmanager/a", "b")}},
		{"empty fields", "- objectName: a\n  objectAlias: ''\n  objectVersion: ''\n  filePermission: ''" + sm, nil, []policies.Request{ask("aws://default/secretsmanager/a", "a")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			parameters := awsCloud().with(append(test.changes, "objects", test.objects)...)
			if diff := gocmp.Diff(test.want, awsCloud().read(parameters).Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", parameters, diff)
			}
			if diff := awsCloud().disagreement(parameters); diff != "" {
				t.Errorf("Read(%q): %s", parameters, diff)
			}
		})
	}
}

func TestAWSIsUnparsed(t *testing.T) {
	const sm, ssm = "\n  objectType: secretsmanager", "\n  objectType: ssmparameter"
	arn := func(s string) string { return "- objectName: " + s + "\n  objectAlias: x" }
	for _, test := range []struct {
		name, objects, problem string
		changes                []string
	}{
		{"no type", "- objectName: a", "objectType", nil},
		{"unknown type", "- objectName: a\n  objectType: ssm", "objectType", nil},
		{"type in another case", "- objectName: a\n  objectType: SecretsManager", "objectType", nil},
		{"no name", "- objectType: secretsmanager", "not part of AWS names", nil},
		{"field twice in two cases", "- objectName: a\n  objectname: b" + sm, "twice", nil},
		{"field that folds beyond ASCII", "- objectName: a\n  objectVer\u017fion: b" + sm, "not known", nil},
		{"unknown field", "- objectName: a\n  objectTemplate: b" + sm, "not known", nil},
		{"unknown field of an entry", "- objectName: a" + sm + "\n  jmesPath: [{path: a, objectAlias: b, c: d}]", "not known", nil},
		{"entry without alias", "- objectName: a" + sm + "\n  jmesPath: [{path: b}]", "no objectAlias", nil},
		{"empty jmesPath", "- objectName: a" + sm + "\n  jmesPath: []", "empty list", nil},
		{"ARN of another region", arn("arn:aws:secretsmanager:eu-west-1:111122223333:secret:a"), "region", []string{"region", "eu-west-2"}},
		{"ARN of another type", arn("arn:aws:secretsmanager:eu-west-1:111122223333:secret:a") + ssm, "objectType", nil},
		{"ARN of another service", arn("arn:aws:iam:eu-west-1:111122223333:secret:a"), "not an ARN", nil},
		{"ARN of the wrong form", arn("arn:aws:ssm:eu-west-1:111122223333:parameter:a"), "not an ARN", nil},
		{"ARN of a secret's form", arn("arn:aws:ssm:eu-west-1:111122223333:secret:a"), "not an ARN", nil},
		{"ARN without an account", arn("arn:aws:secretsmanager:eu-west-1::secret:a"), "not an ARN", nil},
		{"ARN with a version", arn("arn:aws:ssm:eu-west-1:111122223333:parameter/a:3"), "not an ARN", nil},
		{"ARN with two slashes", arn("arn:aws:ssm:eu-west-1:111122223333:parameter//a"), "two slashes", nil},
		{"ARN of no region", arn("arn:aws:secretsmanager:nowhere:111122223333:secret:a"), "region", nil},
		{"version in the name", "- objectName: a:3" + ssm, "not part of AWS names", nil},
		{"comma in the name", "- objectName: \"a,b\"" + sm, "not part of AWS names", nil},
		{"parent in the name", "- objectName: a/../b" + sm, "not part of AWS names", nil},
		{"another secret by reference", "- objectName: /aws/reference/secretsmanager/prod/db" + ssm, "Secrets Manager", nil},
		{"another secret by reference, in another case", "- objectName: /AWS/Reference/secretsmanager/db" + ssm, "Secrets Manager", nil},
		{"another secret by reference and ARN", arn("arn:aws:ssm:eu-west-1:111122223333:parameter/aws/reference/secretsmanager/db"), "Secrets Manager", nil},
		{"parameter twice", "- objectName: a" + ssm + "\n- objectName: a\n  objectAlias: b\n  objectVersion: \"2\"" + ssm, "one SSM parameter", nil},
		{"parameter twice with a slash", "- objectName: a" + ssm + "\n- objectName: /a\n  objectAlias: b" + ssm, "one SSM parameter", nil},
		{"parameter twice in the other region", "- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: b}" + ssm + "\n- objectName: b" + ssm, "one SSM parameter", []string{"failoverRegion", "us-east-2"}},
		{"parameter's version and label", "- objectName: a\n  objectVersion: v1\n  objectVersionLabel: b" + ssm, "objectVersionLabel", nil},
		{"version with a comma", "- objectName: a\n  objectVersion: \"a,b\"" + sm, "objectVersion", nil},
		{"label with an equals sign", "- objectName: a\n  objectVersionLabel: a=b" + sm, "objectVersion", nil},
		{"failover without a region", "- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: b}" + sm, "needs failoverRegion", nil},
		{"failover without an alias", "- objectName: a\n  failoverObject: {objectName: b}" + sm, "needs failoverRegion", []string{"failoverRegion", "us-east-2"}},
		{"failover of another version", "- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: b, objectVersion: c}" + sm, "needs failoverRegion", []string{"failoverRegion", "us-east-2"}},
		{"failover without a name", "- objectName: a\n  failoverObject: {objectVersionLabel: b}" + sm, "failoverObject", []string{"failoverRegion", "us-east-2"}},
		{"failover ARN of another region", "- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: \"arn:aws:secretsmanager:us-east-1:111122223333:secret:a\"}" + sm, "region", []string{"failoverRegion", "us-east-2"}},
		{"failover to another service", "- objectName: arn:aws:secretsmanager:us-east-1:111122223333:secret:a\n  objectAlias: f\n  failoverObject: {objectName: \"arn:aws:ssm:us-east-2:111122223333:parameter/a\"}", "another objectType", []string{"failoverRegion", "us-east-2"}},
		{"failover to the region itself", "- objectName: a" + sm, "the region itself", []string{"region", "us-east-1", "failoverRegion", "us-east-1"}},
		{"region that is none", "- objectName: a" + sm, "not the name of an AWS region", []string{"region", "default"}},
		{"region that is a host", "- objectName: a" + sm, "not the name of an AWS region", []string{"region", "us-east-1.evil.example#"}},
		{"region with a space", "- objectName: a" + sm, "not the name of an AWS region", []string{"region", "us-east-1 "}},
		{"failover region that is none", "- objectName: a" + sm, "not the name of an AWS region", []string{"failoverRegion", "US-EAST-1"}},
		{"translation of two characters", "- objectName: a" + sm, "pathTranslation", []string{"pathTranslation", "__"}},
		{"translation of one character of two bytes", "- objectName: a" + sm, "pathTranslation", []string{"pathTranslation", "ü"}},
		{"translation to a slash", "- objectName: /a" + ssm, "file name", []string{"pathTranslation", "/"}},
		{"two names that translate to one", "- objectName: a/b" + sm + "\n- objectName: a_b" + sm, "same file", nil},
		{"mode of three digits", "- objectName: a\n  filePermission: 0440" + sm, "not in quotes", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			parameters := awsCloud().with(append(test.changes, "objects", test.objects)...)
			checkUnparsed(t, awsCloud().read(parameters).Requests, test.problem)
		})
	}
}

// The bound is on files: a secret has one, and one for each of its jmesPath.
func TestAWSTooMany(t *testing.T) {
	entry := "- objectName: a%d\n  objectType: secretsmanager\n  jmesPath: [{path: p, objectAlias: f%d}]\n"
	for n, want := range map[int]bool{32: false, 33: true, 65: true} {
		var objects strings.Builder
		for i := range n {
			fmt.Fprintf(&objects, entry, i, i)
		}
		if got := awsCloud().read(awsCloud().with("objects", objects.String())).TooMany; got != want {
			t.Errorf("Read(%d secrets with two files each).TooMany = %t, want %t", n, got, want)
		}
	}
}

func awsFormats() []string {
	const sm = "\n  objectType: secretsmanager\n"
	return []string{
		"- objectName: %s" + sm,
		"- objectName: a\n  objectAlias: %s" + sm,
		"- objectName: a\n  objectVersion: %s" + sm,
		"- objectName: a\n  objectVersionLabel: %s" + sm,
		"- objectName: a\n  filePermission: %s" + sm,
		"- objectName: a\n  objectType: %s\n",
		"- {objectName: %s, objectType: secretsmanager}\n",
		"- objectName: a\n  jmesPath:\n  - path: %s\n    objectAlias: b" + sm,
		"- objectName: a\n  jmesPath: [{path: b, objectAlias: %s}]" + sm,
		"- objectName: a\n  %s: b" + sm,
		"%s\n- objectName: a" + sm,
		"- objectName: a" + sm + "%s\n",
		"- objectName: a" + sm + "  %s\n",
		"- objectName: a" + sm + "- objectName: a\n  objectAlias: %s" + sm,
		"- objectName: a\n  objectType: ssmparameter\n- objectName: b\n  objectVersion: %s\n  objectType: ssmparameter\n",
	}
}

func TestAWSAgreesWithTheProvider(t *testing.T) { awsCloud().checkTexts(t, awsFormats(), 150) }

func FuzzReadAWS(f *testing.F) {
	for _, e := range examples(f) {
		if p := e.Spec.Parameters; e.Spec.Provider == "aws" {
			f.Add(p["objects"], p["region"], p["failoverRegion"], p["pathTranslation"])
		}
	}
	for _, format := range awsFormats() {
		f.Add(strings.ReplaceAll(format, "%s", "a/b"), "", "", "False")
	}
	f.Add("- OBJECTNAME: 'a'\n  objecttype: ssmparameter\n  objectVersionLabel: \"3\"\n", "eu-west-1", "eu-west-2", "-")
	f.Add("- objectName: a\n  objectAlias: f\n  failoverObject: {objectName: b/c, objectVersionLabel: l}\n  objectType: secretsmanager\n", "", "us-east-2", "")
	f.Add("- objectName: arn:aws:ssm:eu-west-1:111122223333:parameter/a/b\n  objectAlias: c\n", "", "", "")
	f.Fuzz(func(t *testing.T, objects, region, failover, translation string) {
		awsCloud().checkFuzzed(t, map[string]string{
			"objects": objects, "region": region, "failoverRegion": failover, "pathTranslation": translation,
		})
	})
}
