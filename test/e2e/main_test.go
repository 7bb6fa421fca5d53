//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tools are the programs and images that the tests need, made by `make e2e`.
type tools struct {
	repository string // root of the clone
	helm       string // path of the helm command line
	portcullis string // path of the command line
}

var (
	made   tools           // set by TestMain, before any test
	shared *sharedClusters // made by TestMain
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("the end-to-end tests need root: they start a kubelet")
		if os.Getenv("REQUIRE_ROOT") == "1" {
			return 1
		}
		return 0
	}
	var err error
	if made, err = findTools(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = newShared()
	defer shared.close()
	return m.Run()
}

func findTools() (tools, error) {
	repository, err := filepath.Abs("../..")
	if err != nil {
		return tools{}, err
	}
	t := tools{repository: repository, portcullis: filepath.Join(repository, "bin/portcullis")}
	for _, path := range append(t.images(), t.portcullis) {
		if _, err := os.Stat(path); err != nil {
			return tools{}, fmt.Errorf("%w; hint: run make e2e, which builds it", err)
		}
	}
	out, err := exec.Command(filepath.Join(repository, "tools/tool.sh"), "helm", "helm").Output()
	if err != nil {
		return tools{}, fmt.Errorf("build helm: %w", err)
	}
	t.helm = strings.TrimSpace(string(out))
	return t, nil
}

// images are the tarballs that every cluster gets.
func (t tools) images() []string {
	return []string{
		filepath.Join(t.repository, "bin/images/portcullis-node.tar"),
		filepath.Join(t.repository, "bin/images/portcullis-provider-local.tar"),
	}
}

func (t tools) chart() string { return filepath.Join(t.repository, "deploy/chart") }
