package deploy

import (
	"embed"
	"io/fs"
)

//go:embed all:policy-template
var files embed.FS

// PolicyTemplate returns the files of a policy repository: a bundle that
// compiles and is tested, workloads to try it on, a Makefile and an example of
// continuous integration.
func PolicyTemplate() (fs.FS, error) { return fs.Sub(files, "policy-template") }
