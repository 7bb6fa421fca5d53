package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The versions of Kubernetes that can be asked for.
const (
	Kubernetes137 = "1.37"
	Kubernetes135 = "1.35"
)

// Kubernetes is etcd and all programs of one version of Kubernetes.
func Kubernetes(version string) (Module, error) {
	dir, ok := map[string]string{Kubernetes137: "test/cluster/hyper", Kubernetes135: "test/cluster/hyper135"}[version]
	if !ok {
		return Module{}, fmt.Errorf("kubernetes %q is not among the versions that are built here; hint: %s or %s", version, Kubernetes137, Kubernetes135)
	}
	full, err := required(dir, "k8s.io/kubernetes")
	if err != nil {
		return Module{}, err
	}
	const pkg = "k8s.io/component-base/version"
	major, minor, _ := strings.Cut(version, ".")
	return Module{
		Name: filepath.Base(dir), Dir: dir, Packages: []string{"."}, Sources: []string{dir}, OneFile: true,
		Programs: []string{"hyper", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"},
		LDFlags: fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, full, major, minor),
		Duration: "10 minutes on two cores",
	}, nil
}

// required is the version of a module that the go.mod in dir asks for.
func required(dir, module string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, dir, "go.mod"))
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s/go.mod does not require %s", dir, module)
	}
	return string(found[1]), nil
}

// Containerd is the container runtime. It, runc and the network plugins are
// modules of their own: each is built with the versions that its project
// released it with.
func Containerd() (Module, error) {
	const dir = "test/cluster/runtime/containerd"
	full, err := required(dir, "github.com/containerd/containerd/v2")
	return Module{
		Name: "containerd", Dir: dir, Packages: []string{"tool"}, Programs: []string{"containerd", "containerd-shim-runc-v2", "ctr"},
		LDFlags: "-s -w -X github.com/containerd/containerd/v2/version.Version=" + full, Duration: "a minute",
	}, err
}

// Runc runs containers. Without cgo and its tag it could not apply a seccomp
// profile.
func Runc() (Module, error) {
	const dir = "test/cluster/runtime/runc"
	full, err := required(dir, "github.com/opencontainers/runc")
	return Module{
		Name: "runc", Dir: dir, Packages: []string{"tool"}, Programs: []string{"runc"},
		CGO: true, Tags: "seccomp", LDFlags: "-s -w -X main.version=" + full, Duration: "20 seconds",
	}, err
}

// CNI is the plugins that connect pods to the node's bridge.
func CNI() (Module, error) {
	return Module{
		Name: "cni", Dir: "test/cluster/runtime/cni", Packages: []string{"tool"}, Programs: []string{"bridge", "host-local", "loopback"},
		LDFlags: "-s -w", Duration: "5 seconds",
	}, nil
}

// Node is the first process of the node, and what its first images hold.
func Node() (Module, error) {
	return Module{
		Name: "node", Dir: ".", Packages: []string{"./test/cluster/nodeinit", "./test/cluster/pause"}, Programs: []string{"nodeinit", "pause"},
		Sources: []string{"test/cluster/nodeinit", "test/cluster/pause", "test/cluster/node"},
		LDFlags: "-s -w", Duration: "5 seconds",
	}, nil
}
