package guide

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// Config is what a reader needs.
type Config struct {
	Lab        *lab.Lab
	Dir        string // where he works, made if it is missing
	Clone      string // root of the clone
	Portcullis string // path of the command line
	Helm       string // path of helm
}

// Reader makes the directory and returns who works in it.
func Reader(c Config) (snippets.Reader, error) {
	bin := filepath.Join(c.Dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return snippets.Reader{}, err
	}
	for _, link := range [][2]string{
		{filepath.Join(bin, "portcullis"), c.Portcullis},
		{filepath.Join(bin, "helm"), c.Helm},
		{filepath.Join(c.Dir, "deploy"), filepath.Join(c.Clone, "deploy")},
	} {
		if err := os.Remove(link[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return snippets.Reader{}, err
		}
		if err := os.Symlink(link[1], link[0]); err != nil {
			return snippets.Reader{}, fmt.Errorf("make the directory of a reader: %w", err)
		}
	}
	return snippets.Reader{Dir: c.Dir, Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
		cmd := c.Lab.Command(ctx, name, args...)
		for i, v := range cmd.Env {
			if path, ok := strings.CutPrefix(v, "PATH="); ok {
				cmd.Env[i] = "PATH=" + bin + ":" + path
			}
		}
		cmd.Env = append(cmd.Env, "NODE="+c.Lab.NodeName()) // as OPERATIONS.md asks its reader to
		return cmd
	}}, nil
}
