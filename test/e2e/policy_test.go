//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// grantedLabel is what a namespace has whose service account app may have
	// every secret below app/.
	grantedLabel = "portcullis.test/granted"
	// groupless is a namespace whose pods need no fsGroup.
	groupless  = "groupless"
	configMap  = "portcullis-policy"
	secretsDir = "/var/lib/portcullis-provider-local/secrets" // of the provider "local", on the node
	// signatureSuffix follows a bundle's name in that of its signature.
	signatureSuffix = ".sigstore.json"
)

const grants = `- id: e2e-app
  owner: e2e
  expiry: 2099-12-31
  namespaceSelector: {` + grantedLabel + `: "true"}
  serviceAccounts: [app]
  provider: local
  secrets: ["local://node/app/*"]
  maxFileMode: "0444"
- id: e2e-absent-provider
  owner: e2e
  expiry: 2099-12-31
  namespaceSelector: {` + grantedLabel + `: "true"}
  serviceAccounts: [app]
  provider: akeyless
  secrets: ["akeyless://default/app/*"]
`

// edit changes a copy of the starter policy in a directory.
type edit func(w *world, dir string)

// policy is a bundle of the starter policy with the tests' grants, changed by
// the edit where there is one.
func (w *world) policy(change edit) (bundle string) {
	w.Helper()
	dir, err := os.MkdirTemp(w.dir, "policy")
	if err != nil {
		w.Fatal(err)
	}
	policy := filepath.Join(dir, "policy")
	if err := os.CopyFS(policy, os.DirFS(filepath.Join(made.repository, "policies/rego/starter"))); err != nil {
		w.Fatal(err)
	}
	w.replaceIn(filepath.Join(policy, "portcullis/config/data.yaml"),
		`namespace_label_keys: ["kubernetes.io/metadata.name"]`, `namespace_label_keys: ["kubernetes.io/metadata.name", "`+grantedLabel+`"]`)
	w.replaceIn(filepath.Join(policy, "portcullis/config/data.yaml"),
		"exempt: {namespaces: []}\n\n  capabilities:", "exempt: {namespaces: ["+groupless+"]}\n\n  capabilities:")
	w.writeFile(filepath.Join(policy, "portcullis/grants/e2e.yaml"), grants)
	if change != nil {
		change(w, policy)
	}
	bundle = filepath.Join(dir, "bundle.tar.gz")
	w.built(policy, bundle)
	return bundle
}

// built builds and signs a bundle, with a serial above that of the one before.
func (w *world) built(dir, bundle string, flags ...string) {
	w.Helper()
	w.onHost(made.portcullis, append([]string{"policy", "build", dir, "--out", bundle, "--serial", fmt.Sprint(time.Now().UnixMilli())}, flags...)...)
	w.onHost(made.portcullis, "policy", "sign", bundle, "--key", w.keys.private)
}

// publishPolicy puts a bundle where the chart mounts it from, with the signature
// that lies beside it, if there is one.
func (w *world) publishPolicy(bundle string) {
	w.Helper()
	args := []string{"create", "configmap", configMap, "-n", system, "--from-file=bundle.tar.gz=" + bundle, "--dry-run=client", "-o", "yaml"}
	if _, err := os.Stat(bundle + signatureSuffix); err == nil {
		args = append(args, "--from-file=bundle.tar.gz"+signatureSuffix+"="+bundle+signatureSuffix)
	}
	object := w.kubectl(args...)
	w.must(object, "kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-")
}

// values are what every installation of the tests has.
func (w *world) values() []string {
	return []string{
		"--set", "clusterName=e2e", "--set-file", "policy.keys[0]=" + w.keys.public,
		"--set", "policy.configMap.name=" + configMap, "--set", "policy.pollInterval=1s",
		"--set", "enableSecretRotation=true", "--set", "rotationPollInterval=2s",
		"--set", "localProvider.enabled=true",
	}
}

// writeSecret sets a secret of the provider "local", as one rename.
func (w *world) writeSecret(path, value string) {
	w.Helper()
	file := w.lab.Path(filepath.Join(secretsDir, path))
	w.writeFile(file+".new", value)
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

func (w *world) writeFile(path, content string) {
	w.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *world) replaceIn(path, old, replacement string) {
	w.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		w.Fatalf("%s has %q %d times, want once", path, old, strings.Count(string(text), old))
	}
	w.writeFile(path, strings.Replace(string(text), old, replacement, 1))
}
