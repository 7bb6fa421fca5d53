package secretref

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Names of cyberark/conjur-k8s-csi-provider, as in pkg/provider/provider.go.
const (
	conjurProvider   = "conjur"
	conjurAccount    = "account"
	conjurURL        = "applianceUrl"
	conjurVersion    = "conjur.org/configurationVersion"
	conjurSecrets    = "secrets"
	conjurAnnotation = "conjur.org/secrets"
)

// conjurAccountPattern leaves out what would be another account, another kind of
// resource or another path in the provider's requests.
var conjurAccountPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// conjurReader reads the parameters of CyberArk Conjur's provider, versions
// 0.1 and 0.2. It reads nothing but its parameters and the pod: there are no
// defaults of its own for them.
type conjurReader struct{}

func (conjurReader) vocabulary() vocabulary {
	return vocabulary{
		provider: conjurProvider, list: conjurSecrets, addresses: []string{conjurURL},
		scoping: []string{conjurAccount, conjurURL, "authnId", "identity", "sslCertificate"},
		safe:    []string{conjurAccount, conjurURL, "authnId", conjurVersion, "identity"},
	}
}

// Read implements Reader.
func (c conjurReader) Read(p Params) Reading {
	list, err := c.list(p)
	var pairs []conjurPair
	if err == nil {
		pairs, err = parseConjur(list)
	}
	own := c.vocabulary().own(p, err)
	if list.annotation && credentialValue(list.text) {
		own.listErr = uncertain(list.name + " holds a literal credential")
		own.credentials = append(own.credentials, conjurAnnotation)
		slices.Sort(own.credentials)
	}
	r := own.reading()
	if list.annotation && list.text != "" {
		r.Annotations = Redact(map[string]string{conjurAnnotation: list.text}, own.credentials)
	}
	var secrets []secret
	r.Requests = own.requests(p, func() (_ []secret, err error) {
		secrets, err = c.secrets(own.values, pairs, list.name)
		return secrets, err
	})
	// The provider reports each variable by its name.
	r.ObjectIDs = objectIDs(r.Requests, secrets, func(s secret) string { return s.id.Path })
	if r.ObjectIDs == nil && p.Parameters[conjurVersion] != "0.1.0" {
		// The provider reads the pod later than we do, and annotations can be
		// changed at any time: a grant of parameters in full would be one of
		// everything that this identity may read.
		r.ObjectIDs = []string{}
	}
	return r
}

// conjurText is the list of secrets and where it stands.
type conjurText struct {
	name, text string
	annotation bool
}

// list finds the list. From 0.2.0 on, the default of the provider's versions
// since then, it stands in the pod; the versions before know the class's only.
func (conjurReader) list(p Params) (conjurText, error) {
	inClass := conjurText{name: conjurSecrets, text: p.Parameters[conjurSecrets]}
	inPod := conjurText{name: "the pod's annotation " + conjurAnnotation, text: p.PodAnnotations[conjurAnnotation], annotation: true}
	switch p.Parameters[conjurVersion] {
	case "0.1.0":
		return inClass, nil
	case "0.2.0":
		return inPod, nil
	case "":
		switch {
		case inClass.text == "":
			return inPod, nil
		case inPod.text == "":
			return inClass, nil
		}
		return inPod, uncertain("secrets stand in the class and in the pod: set " + conjurVersion)
	default:
		return inPod, uncertain(conjurVersion + " is not known: use 0.1.0 or 0.2.0")
	}
}

// parseConjur reads the list. There may be several files in one of its entries.
func parseConjur(list conjurText) ([]conjurPair, error) {
	entries, err := parseList(list.name, list.text, func(n node) ([]conjurPair, error) { return conjurPairs(n, list.name) })
	pairs := slices.Concat(entries...)
	if len(pairs) > MaxObjects {
		return nil, &tooManyError{list.name}
	}
	return pairs, err
}

func (c conjurReader) secrets(values map[string]string, pairs []conjurPair, list string) ([]secret, error) {
	backend, err := c.backend(values)
	if err != nil {
		return nil, err
	}
	secrets := make([]secret, len(pairs))
	for i, pair := range pairs {
		secrets[i] = secret{id: ID{Provider: conjurProvider, Backend: backend, Path: pair.variable}, file: pair.file}
	}
	return secrets, checkConjur(secrets, list)
}

func (conjurReader) backend(parameters map[string]string) (string, error) {
	e, err := parseEndpoint(conjurURL, parameters[conjurURL])
	if err != nil {
		return "", err
	}
	account := parameters[conjurAccount]
	if !conjurAccountPattern.MatchString(account) {
		return "", uncertain(conjurAccount + " is missing, or has another character than letters, digits, . _ and -")
	}
	// The provider trims a slash, too. A comma stands in no host, path or account.
	e.path = strings.TrimSuffix(e.path, "/")
	return e.String() + "," + account, nil
}

// conjurPair is one file and the variable that it holds.
type conjurPair struct{ file, variable string }

// conjurPairs returns the entries of one map, in their order.
func conjurPairs(n node, list string) ([]conjurPair, error) {
	f, err := n.anyFields()
	if err != nil {
		return nil, err
	}
	if len(f.nodes) == 0 {
		return nil, uncertain("an entry of " + list + " names no file")
	}
	var pairs []conjurPair
	for key := range keysOf(n.yaml) {
		value := f.nodes[key]
		value.name = "a variable of " + list // its name is the author's own text
		variable, err := value.text()
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, conjurPair{file: key, variable: variable})
	}
	return pairs, nil
}

// keysOf yields the keys of a map in their order.
func keysOf(m *yaml.Node) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := 0; i < len(m.Content); i += 2 {
			if !yield(m.Content[i].Value) {
				return
			}
		}
	}
}

// checkConjur refuses what the provider would not ask for as it stands there: it
// joins the variables with commas, takes "kind:id" and "account:kind:id" apart,
// and keeps one file for each variable.
func checkConjur(secrets []secret, list string) error {
	seen := make(map[string]bool, len(secrets))
	for _, s := range secrets {
		variable := s.id.Path
		switch {
		case !validName(variable) || strings.ContainsAny(variable, ":,") || strings.HasPrefix(variable, "/") || strings.Trim(variable, " ") != variable:
			return uncertain(list + ` has a variable that Conjur could read as another one: it may have no : , % ? \ and no empty, . or .. element`)
		case seen[variable]:
			return uncertain(list + " has a variable twice, and the provider writes one file for it")
		case !validFile(s.file):
			return uncertain(list + " has a file that is not a relative path below the volume")
		}
		seen[variable] = true
	}
	return nil
}

func (c conjurReader) syntax() Syntax {
	return c.vocabulary().describe(Syntax{
		ID:   "conjur://<applianceUrl>,<account>/<variable>",
		File: "key of the entry: `- file: variable`",
		Unparsed: []string{
			"any parameter but these, `secrets` and `conjur.org/configurationVersion`", "a variable with `:` or `,`, or listed twice",
			"`secrets` beside the pod's annotation without `conjur.org/configurationVersion`",
		},
	})
}
