package certificates

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// hook is a webhook of the configuration that calls our Service.
type hook struct {
	name   string
	bundle []byte // as it is
	certs  []*x509.Certificate
}

// hooks returns those of a configuration that call the Service. What the others
// trust is nobody's business here.
func hooks(c *admissionv1.ValidatingWebhookConfiguration, service types.NamespacedName) (ours []hook) {
	for _, w := range c.Webhooks {
		s := w.ClientConfig.Service
		if s == nil || s.Name != service.Name || s.Namespace != service.Namespace {
			continue
		}
		h := hook{name: w.Name, bundle: w.ClientConfig.CABundle}
		if certs, err := decodeCertificates(h.bundle); err == nil {
			h.certs = certs
		}
		ours = append(ours, h)
	}
	return ours
}

// common returns what all of them trust.
func common(ours []hook) (certs []*x509.Certificate) {
	if len(ours) == 0 {
		return nil
	}
	for _, c := range ours[0].certs {
		if !slices.ContainsFunc(ours, func(h hook) bool { return !slices.ContainsFunc(h.certs, c.Equal) }) {
			certs = append(certs, c)
		}
	}
	return certs
}

// union returns what any of them trusts.
func union(ours []hook) (certs []*x509.Certificate) {
	for _, h := range ours {
		for _, c := range h.certs {
			if !slices.ContainsFunc(certs, c.Equal) {
				certs = append(certs, c)
			}
		}
	}
	return certs
}

// bundlePatch has some webhooks trust bundle. It holds nothing else, and is refused
// when the object changed since it was read.
type bundlePatch struct {
	Metadata patchMetadata  `json:"metadata"`
	Webhooks []patchWebhook `json:"webhooks"`
}

type patchMetadata struct {
	ResourceVersion string `json:"resourceVersion"`
}

type patchWebhook struct {
	Name         string      `json:"name"`
	ClientConfig patchClient `json:"clientConfig"`
}

type patchClient struct {
	CABundle []byte `json:"caBundle"`
}

// newBundlePatch returns the patch and the names of the webhooks that it changes:
// none, where all have that caBundle.
func newBundlePatch(version string, ours []hook, bundle []byte) (p bundlePatch, changed []string) {
	p.Metadata.ResourceVersion = version
	for _, h := range ours {
		if !bytes.Equal(h.bundle, bundle) {
			p.Webhooks = append(p.Webhooks, patchWebhook{h.name, patchClient{bundle}})
			changed = append(changed, h.name)
		}
	}
	return p, changed
}

var errNotCalled = errors.New("nothing is reviewed")

// readHooks returns the configuration and those of its webhooks that are ours, or
// an error with a remedy.
func readHooks(ctx context.Context, c *client, name string, service types.NamespacedName) (*admissionv1.ValidatingWebhookConfiguration, []hook, error) {
	o, err := c.configuration(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("the ValidatingWebhookConfiguration %q is not in the cluster: %w; hint: install the chart again, or check --webhook-configuration", name, errNotCalled)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read ValidatingWebhookConfiguration %q: %w", name, err)
	}
	ours := hooks(o, service)
	if len(ours) == 0 {
		return nil, nil, fmt.Errorf("no webhook of the ValidatingWebhookConfiguration %q calls the Service %s: %w; hint: check --service and --namespace", name, service, errNotCalled)
	}
	return o, ours, nil
}
