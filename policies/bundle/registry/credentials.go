package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxCredentials bounds the file with the credentials.
const maxCredentials = 1 << 20

// dockerConfig is what this package reads of docker's config.json, which is also
// the form of a Secret of type kubernetes.io/dockerconfigjson.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credentials are those of one repository.
type credentials struct {
	config authn.AuthConfig
	// helper is set where the file leaves them to another program: daemons start
	// none.
	helper bool
}

func (c credentials) authenticator() authn.Authenticator {
	if c.config == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(c.config)
}

// credentialsFor reads the file anew, so that whoever rotates it need not restart
// anything.
func (c *Client) credentialsFor(ref Reference) (credentials, error) {
	if c.config.CredentialsFile == "" {
		return credentials{}, nil
	}
	const hint = "give a docker config.json with auths in it, that this process may read"
	text, err := readBounded(c.config.CredentialsFile, maxCredentials)
	if err != nil {
		return credentials{}, problemf(ReasonCredentials, hint, "credentials file: %v", err)
	}
	var d dockerConfig
	if err := json.Unmarshal(text, &d); err != nil {
		// The error may hold a piece of the file.
		return credentials{}, problemf(ReasonCredentials, hint, "credentials file %q is not JSON of that form", c.config.CredentialsFile)
	}
	found, err := d.of(ref)
	if err != nil {
		return credentials{}, problemf(ReasonCredentials, hint, "credentials file %q: %v", c.config.CredentialsFile, err)
	}
	return found, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%q is longer than %d bytes", path, most)
	}
	return text, errors.Join(err, f.Close())
}

// of finds the entry for a repository: of several that fit, the longest, as kubelet
// does and as containers' auth.json may have them.
func (d dockerConfig) of(ref Reference) (credentials, error) {
	target := registryHost(ref.host) + "/" + ref.repository
	best, length := dockerAuth{}, -1
	for key, entry := range d.Auths {
		if k := normal(key); len(k) > length && (k == target || strings.HasPrefix(target, k+"/")) {
			best, length = entry, len(k)
		}
	}
	a, err := best.decode()
	if err != nil {
		return credentials{}, fmt.Errorf("the entry of %q %w", ref.host, err)
	}
	helper := false
	if a == (authn.AuthConfig{}) {
		helper = d.CredsStore != ""
		for host := range d.CredHelpers {
			helper = helper || normal(host) == registryHost(ref.host)
		}
	}
	return credentials{a, helper}, nil
}

// normal is the host, or host and path, that a key of auths is about: docker writes
// URLs there too.
func normal(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	key = strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
	host, path, found := strings.Cut(key, "/")
	host = registryHost(strings.ToLower(host))
	if !found {
		return host
	}
	return host + "/" + path
}

// registryHost knows that Docker Hub goes by two names.
func registryHost(host string) string {
	if host == "docker.io" {
		return name.DefaultRegistry
	}
	return host
}

func (a dockerAuth) decode() (authn.AuthConfig, error) {
	c := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth == "" {
		return c, nil
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return authn.AuthConfig{}, errors.New("has an auth that is not base64")
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return authn.AuthConfig{}, errors.New("has an auth that is not user:password")
	}
	c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	return c, nil
}
