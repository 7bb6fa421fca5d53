//go:build e2e

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/test/snippets"
)

// reader follows a document in the node, in a directory with what a clone has.
type reader struct {
	*world

	name    string
	dir     string
	blocks  []snippets.Block
	printed string // by the last section
}

func (w *world) reader(document string, sections []string) *reader {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(made.repository, document))
	if err != nil {
		w.Fatal(err)
	}
	r := &reader{world: w, name: document, dir: filepath.Join(w.dir, "reader")}
	if r.blocks, err = snippets.Extract(string(text), sections...); err != nil {
		w.Fatalf("%s: %v", document, err)
	}
	for link, to := range map[string]string{
		"bin/portcullis": made.portcullis, "bin/helm": made.helm, "deploy": filepath.Join(made.repository, "deploy"),
	} {
		link = filepath.Join(r.dir, link)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			w.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			w.Fatal(err)
		}
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
	err := snippets.Reader{Dir: r.dir, Printed: &printed, Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
		cmd := r.lab.Command(ctx, name, args...)
		cmd.Env = append(cmd.Env, "NODE="+node) // as OPERATIONS.md asks its reader to
		for i, v := range cmd.Env {
			if path, ok := strings.CutPrefix(v, "PATH="); ok {
				cmd.Env[i] = "PATH=" + filepath.Join(r.dir, "bin") + ":" + path
			}
		}
		return cmd
	}}.Follow(ctx, blocks)
	r.printed = printed.String()
	r.Logf("section %q, in %v, prints\n%s", section, time.Since(begin).Round(100*time.Millisecond), r.printed)
	if err != nil {
		r.Fatalf("%s: %v", r.name, err)
	}
}
