//go:build e2e

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/test/cluster/guide"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// reader follows a document in the node, in a directory with what a clone has.
type reader struct {
	*world

	name    string
	dir     string
	types   snippets.Reader
	blocks  []snippets.Block
	printed string // by the last section
}

func (w *world) follower(document string, sections []string) *reader {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(made.repository, document))
	if err != nil {
		w.Fatal(err)
	}
	r := &reader{world: w, name: document, dir: filepath.Join(w.dir, "reader")}
	if r.blocks, err = snippets.Extract(string(text), sections...); err != nil {
		w.Fatalf("%s: %v", document, err)
	}
	if r.types, err = guide.Reader(guide.Config{Lab: w.lab, Dir: r.dir, Clone: made.repository, Portcullis: made.portcullis, Helm: made.helm}); err != nil {
		w.Fatal(err)
	}
	return r
}

// follow plays a section, which must have something to run.
func (r *reader) follow(section string) {
	r.Helper()
	blocks := slices.DeleteFunc(slices.Clone(r.blocks), func(b snippets.Block) bool { return b.Section != section })
	if !slices.ContainsFunc(blocks, func(b snippets.Block) bool { return b.Kind == snippets.Run }) {
		r.Fatalf("%s has nothing to run in section %q", r.name, section)
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Minute)
	defer cancel()
	var printed strings.Builder
	begin := time.Now()
	r.types.Printed = &printed
	err := r.types.Follow(ctx, blocks)
	r.printed = printed.String()
	r.Logf("section %q, in %v, prints\n%s", section, time.Since(begin).Round(100*time.Millisecond), r.printed)
	if err != nil {
		r.Fatalf("%s: %v", r.name, err)
	}
}
