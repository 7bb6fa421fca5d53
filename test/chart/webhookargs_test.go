package chart_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// webhookOf is the webhook's container, where a release has one.
func webhookOf(t *testing.T, r release) (corev1.Container, bool) {
	t.Helper()
	for name, spec := range r.podSpecs(t) {
		if strings.HasSuffix(name, "StatefulSet portcullis-webhook") {
			return spec.Containers[0], true
		}
	}
	return corev1.Container{}, false
}

func TestWebhookAcceptsTheArguments(t *testing.T) {
	file := program(t, "portcullis-webhook", "insecure")
	set := map[string]bool{}
	forEach(t, func(t *testing.T, r release) {
		c, ok := webhookOf(t, r)
		if !ok {
			return
		}
		args := append(slices.Clone(c.Args), "--health-addr=", "--metrics-addr=", "--namespace=kube-system", "--replica=portcullis-webhook-0")
		if got := refusedArgs(t, file, args); got != "" {
			t.Errorf("portcullis-webhook %q:\n%s", args, got)
		}
		for _, arg := range c.Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			set[name] = true
		}
	})
	help, err := exec.CommandContext(t.Context(), file, "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("--help: %v\n%s", err, help)
	}
	byOthers := []string{
		"namespace", "replica", // from the environment
		"kubeconfig", "drain", "max-in-flight", // extraArgs
		"allow-unsigned-policy", // the value is tested for both daemons together
		"manifests", "help", "version",
	}
	flags := regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(help), -1)
	if len(flags) < 20 || len(set) < 20 {
		t.Fatalf("found %d flags, %d of them set: the search is broken", len(flags), len(set))
	}
	for _, m := range flags {
		if !set[m[1]] && !slices.Contains(byOthers, m[1]) {
			t.Errorf("--%s is set by no value of testdata/values: add a value to the chart, or say here who sets it", m[1])
		}
	}
}

// signs reports whether arguments name anybody who may sign policy: without, a
// program takes policy that nobody signed, or does not start.
func signs(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--policy-key=") || strings.HasPrefix(a, "--policy-identity=")
	})
}
