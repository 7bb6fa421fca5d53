// Package rego holds the starter policy: a small bundle that the demo runs and
// that security teams copy. The library of the contract, which is next to it, is
// embedded by package policies.
//
// It promises a bundle that compiles and whose checks are tested. It does not
// promise to fit anybody's cluster: its one grant is an example. A caller copies
// the files to a directory and edits them there.
package rego

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed starter/.manifest starter/portcullis starter/tests
var files embed.FS

// Starter returns the files of the starter policy, tests and fixtures included, in the layout
// that bundle.LoadDirectory reads.
func Starter() (fs.FS, error) {
	starter, err := fs.Sub(files, "starter")
	if err != nil {
		return nil, fmt.Errorf("open starter policy: %w", err)
	}
	return starter, nil
}
