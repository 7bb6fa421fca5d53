package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	dialTimeout = 10 * time.Second
	readTimeout = 30 * time.Second
	acceptJSON  = "application/json"
)

// Load returns how to reach the cluster, as kubectl finds it: the file, or that of
// the environment and the home directory, and the context, or the current one. It
// also returns the namespace of the context.
func Load(kubeconfig, context string) (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context})
	c, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, "", errors.New("find the cluster: there is no kubeconfig; hint: give --kubeconfig, or -f with manifests and leave out --cluster")
	}
	if err != nil {
		// The reader's own text may quote the file, which holds credentials.
		return nil, "", errors.New("find the cluster: the kubeconfig or its context cannot be used; hint: kubectl config view shows what is wrong with it")
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", errors.New("find the cluster: the context names no namespace that can be used; hint: give --namespace")
	}
	return c, namespace, nil
}

// NewClient returns the address of the API server and a client for it.
func NewClient(c *rest.Config) (*url.URL, *http.Client, error) {
	own := rest.CopyConfig(c)
	own.QPS, own.RateLimiter, own.Timeout = -1, nil, readTimeout
	own.WarningHandler, own.WarningHandlerWithContext = rest.NoWarnings{}, nil
	own.ContentType, own.AcceptContentTypes = acceptJSON, acceptJSON
	own.UserAgent = "portcullis"
	if own.Dial == nil && own.Transport == nil {
		own.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	base, _, err := rest.DefaultServerUrlFor(own)
	if err == nil {
		base, _, err = rest.DefaultServerURL(own.Host, "/", schema.GroupVersion{}, base.Scheme == "https")
	}
	if err != nil {
		return nil, nil, errors.New("find the cluster: the address of the API server is not a URL; hint: kubectl config view shows it")
	}
	client, err := rest.HTTPClientFor(own)
	if err != nil {
		return nil, nil, fmt.Errorf("find the cluster: %w", err)
	}
	// Whoever an answer points to would get the credentials.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return base, client, nil
}
