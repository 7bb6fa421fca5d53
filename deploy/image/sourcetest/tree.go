package sourcetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Programs are the commands of the tree.
func Programs() []string {
	return []string{"portcullis", "portcullis-node", "portcullis-provider-local", "portcullis-webhook"}
}

// CommitTime is when the tree's commit was made, in seconds since 1970.
const CommitTime = "1700000000"

// license is one that may be given away, the ISC licence: the trees pass the
// same check as the product.
const license = `Copyright (c) 2026, somebody

Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND
FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS
OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER
TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
`

// New returns the root of a new tree, with the version in its chart.
func New(t testing.TB, version string) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"go.mod":                  "module github.com/portcullis-csi/portcullis\n\ngo " + strings.TrimPrefix(runtime.Version(), "go") + "\n",
		"LICENSE":                 license,
		".gitignore":              "/bin/\n",
		"deploy/chart/Chart.yaml": "name: portcullis\nversion: " + version + "\nappVersion: " + version + "\n",
	}
	for _, p := range Programs() {
		files["cmd/"+p+"/main.go"] = "package main\n\nvar stamped string\n\nfunc main() { print(stamped, suffix) }\n"
		files["cmd/"+p+"/secure.go"] = "//go:build !insecure\n\npackage main\n\nconst suffix = \"\"\n"
		files["cmd/"+p+"/insecure.go"] = "//go:build insecure\n\npackage main\n\nconst suffix = \" insecure\"\n"
	}
	for name, text := range files {
		Write(t, filepath.Join(root, name), text)
	}
	Git(t, root, "init", "-q", "-b", "main")
	Git(t, root, "add", ".")
	Git(t, root, "commit", "-q", "-m", "a commit")
	return root
}

// Clone copies a tree to another path as git does.
func Clone(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "a", "longer", "path")
	Git(t, ".", "clone", "-q", from, to)
	return to
}

// Write makes a file and its directories.
func Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Git runs git with nothing of the machine's or the user's configuration.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=@"+CommitTime+" +0000",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=@"+CommitTime+" +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}
