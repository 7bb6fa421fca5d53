package check

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// formatted returns a module as opa fmt writes it.
func formatted(name string, text []byte) ([]byte, error) {
	return format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1})
}

// formatFinding names the first line that opa fmt would write in another way. What
// cannot be parsed is somebody else's finding.
func formatFinding(name, text string) []Finding {
	want, err := formatted(name, []byte(text))
	if err != nil || string(want) == text {
		return nil
	}
	have, lines := strings.Split(text, "\n"), strings.Split(string(want), "\n")
	row := 0
	for row < len(have) && row < len(lines) && have[row] == lines[row] {
		row++
	}
	f := Finding{File: name, Line: row + 1, ID: IDFormat, Severity: Warning, Message: "opa fmt would remove this line", Hint: "portcullis policy check --fix rewrites the file"}
	if row < len(lines) {
		f.Message = fmt.Sprintf("opa fmt would write %q", lines[row])
	}
	return []Finding{f}
}

// Fix rewrites the modules and tests of a bundle's directory as opa fmt does, and
// returns the names of those that it changed.
func Fix(root *os.Root) ([]string, error) {
	files, err := readModules(root.FS())
	if err != nil {
		return nil, err
	}
	var changed []string
	for _, name := range sortedKeys(files) {
		want, err := formatted(name, []byte(files[name]))
		if err != nil || bytes.Equal(want, []byte(files[name])) {
			continue
		}
		if err := replace(root, name, want); err != nil {
			return changed, fmt.Errorf("rewrite %q: %w", name, err)
		}
		changed = append(changed, name)
	}
	return changed, nil
}

// replace writes a file beside the old one and renames it, so that none is lost
// when the disk is full.
func replace(root *os.Root, name string, text []byte) (err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	temporary := name + ".new"
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return root.Rename(temporary, name)
}
