package chart_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// built keeps the programs for all tests: TestMain makes and removes the directory.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "chart-programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// program builds a program of the product. With the tag insecure it knows all
// flags, without it is what releases are.
func program(t *testing.T, name, tags string) string {
	t.Helper()
	file := filepath.Join(built, name+tags)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", tags, "-o", file, "./cmd/"+name)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", name, err, out)
	}
	return file
}

// nowhere is a state directory that cannot be made: the first thing that a
// program does with flags that it accepts is to fail there.
const nowhere = "/dev/null/state"

// refusedArgs returns what the program says of its command line: nothing where it is
// accepted. The node's name comes from the environment, as in the pod.
func refusedArgs(t *testing.T, file string, args []string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), file, append(slices.Clone(args), "--state-dir="+nowhere)...)
	cmd.Env = []string{"NODE_NAME=node-1"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v, want that it ends for want of a state directory\n%s", filepath.Base(file), args, err, out)
	}
	if exit.ExitCode() == 2 {
		return string(out)
	}
	return ""
}

// The program itself says whether it would start with what the chart renders:
// exit code 2 is a flag that is missing, unknown or wrong.
func TestPluginAcceptsTheArguments(t *testing.T) {
	insecure := program(t, "portcullis-node", "insecure")
	forEach(t, func(t *testing.T, r release) {
		args := append(slices.Clone(r.plugin(t).Args), "--health-addr=", "--metrics-addr=")
		if got := refusedArgs(t, insecure, args); got != "" {
			t.Errorf("portcullis-node %q:\n%s", args, got)
		}
		names := map[string]bool{}
		for _, arg := range r.plugin(t).Args {
			name, _, ok := strings.Cut(arg, "=")
			repeatable := slices.Contains([]string{"--policy-key", "--policy-break-glass-key", "--policy-identity"}, name)
			if !ok || names[name] && !repeatable {
				t.Errorf("%s is there twice or has no value of its own", arg)
			}
			names[name] = true
		}
	})
	args := install(t, newest(), "").plugin(t).Args
	for _, wrong := range [][]string{
		{"--no-such-flag=1"}, {"--max-node-bytes=128Mi"}, {"--cluster-name="}, {"--rotation-poll-interval=2"}, {"--swap-protection=maybe"},
	} {
		if got := refusedArgs(t, insecure, slices.Concat(args, wrong)); got == "" {
			t.Errorf("the plugin takes %q: this test would not see what it does not take", wrong)
		}
	}
}

// What the release image is started with must be what the release build knows.
func TestReleaseBuildAcceptsTheArgumentsOfTheReleaseImage(t *testing.T) {
	file := program(t, "portcullis-node", "")
	forEach(t, func(t *testing.T, r release) {
		plugin := r.plugin(t)
		insecure := slices.Contains(plugin.Args, "--allow-unsigned-policy=true")
		if named := strings.Contains(plugin.Image, "-insecure"); named != insecure {
			t.Errorf("image %s with --allow-unsigned-policy=%v", plugin.Image, insecure)
		}
		got := refusedArgs(t, file, append(slices.Clone(plugin.Args), "--health-addr=", "--metrics-addr="))
		if (got == "") != (!insecure && signs(plugin.Args)) {
			t.Errorf("the release build says %q of %q", got, plugin.Args)
		}
	})
}

func TestLocalProviderAcceptsTheArguments(t *testing.T) {
	file := program(t, "portcullis-provider-local", "")
	found := false
	forEach(t, func(t *testing.T, r release) {
		for name, spec := range r.podSpecs(t) {
			if !strings.HasSuffix(name, "DaemonSet portcullis-provider-local") {
				continue
			}
			found = true
			help, err := exec.CommandContext(t.Context(), file, append(slices.Clone(spec.Containers[0].Args), "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("portcullis-provider-local %q: %v\n%s", spec.Containers[0].Args, err, help)
			}
		}
	})
	if !found {
		t.Error("no rendering has the local provider")
	}
}

// Every flag of the plugin is set by a value, or is one that extraArgs may set.
func TestEveryFlagIsReachable(t *testing.T) {
	insecure := program(t, "portcullis-node", "insecure")
	help, err := exec.CommandContext(t.Context(), insecure, "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("--help: %v\n%s", err, help)
	}
	var flags []string
	for _, m := range regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(help), -1) {
		flags = append(flags, m[1])
	}
	if len(flags) < 30 {
		t.Fatalf("found the flags %q: the search is broken", flags)
	}
	set := map[string]bool{}
	forEach(t, func(t *testing.T, r release) {
		for _, arg := range r.plugin(t).Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			set[name] = true
			if !slices.Contains(flags, name) {
				t.Errorf("%s is no flag of the plugin", arg)
			}
		}
	})
	byOthers := map[string]string{
		"nodeid":     "the environment variable NODE_NAME",
		"kubeconfig": "extraArgs",
		"manifests":  "extraArgs, in development builds: facts of files in place of the API server",
		"help":       "a person", "version": "a person",
	}
	for _, name := range flags {
		if _, other := byOthers[name]; !set[name] && !other {
			t.Errorf("--%s is set by no value of testdata/values: add a value to the chart, or say here who sets it", name)
		}
	}
	for name := range byOthers {
		if name == "kubeconfig" {
			continue // set by extraArgs in testdata/values
		}
		if set[name] || !slices.Contains(flags, name) {
			t.Errorf("--%s is no flag, or is set by the chart", name)
		}
	}
	r := install(t, newest(), "extraArgs: [--manifests=/manifests]")
	if !slices.Contains(r.plugin(t).Args, "--manifests=/manifests") {
		t.Error("extraArgs does not reach the plugin")
	}
	for name := range set {
		if name == "kubeconfig" {
			continue
		}
		if got := refusal(t, valuesOf(t, "clusterName: test\nextraArgs: [--"+name+"=1]")); !strings.Contains(got, "extraArgs: --"+name+" is set by the chart") {
			t.Errorf("extraArgs may set --%s a second time: %q", name, got)
		}
	}
}
