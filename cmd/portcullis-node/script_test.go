package main_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"portcullis-node": func() { os.Exit(node.Run(os.Args[1:])) },
	})
}

// TestScripts plays the user stories of testdata/script. The condition
// insecure holds in builds with that tag; make test runs both.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(name string) (bool, error) {
			switch name {
			case "insecure":
				return node.InsecureBuild, nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, nil
		},
		RequireUniqueNames: true,
	})
}
