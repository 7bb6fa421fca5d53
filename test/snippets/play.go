package snippets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Reader types what a document says, in a directory of his own.
type Reader struct {
	Dir string   // where he works
	Env []string // of what he runs

	// Command makes what runs bash, where that is not simply this process's
	// child.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd

	// Printed gets what is printed, if it is set.
	Printed io.Writer
}

// Follow plays blocks one after the other, and returns an error that names the
// line of the first that is not as the document says.
func (r Reader) Follow(ctx context.Context, blocks []Block) error {
	printed := ""
	for i, b := range blocks {
		var err error
		switch b.Kind {
		case File:
			err = r.write(b, os.O_TRUNC)
		case Append:
			err = r.write(b, os.O_APPEND)
		case Run:
			var shown *Block
			if i+1 < len(blocks) && blocks[i+1].Kind == Output {
				shown = &blocks[i+1]
			}
			printed, err = r.repeat(ctx, b, shown)
		case Output:
			if !Matches(b.Text, printed) {
				err = fmt.Errorf("the document shows\n%s\nand what was printed is\n%s", b.Text, printed)
			}
		case Sample:
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", b.Line, err)
		}
	}
	return nil
}

func (r Reader) write(b Block, how int) error {
	path := filepath.Join(r.Dir, filepath.FromSlash(b.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.Text)
	return errors.Join(err, f.Close())
}

// between is the time from one try to the next.
const between = time.Second

// repeat runs a block as a reader does who waits for something: until it is as it is
// shown, or the time is over.
func (r Reader) repeat(ctx context.Context, b Block, shown *Block) (printed string, err error) {
	deadline := time.Now().Add(b.Within)
	for {
		printed, err = r.run(ctx, b)
		asShown := err == nil && (shown == nil || Matches(shown.Text, printed))
		if asShown || !time.Now().Add(between).Before(deadline) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(between):
			continue
		}
		break
	}
	if r.Printed != nil {
		_, _ = io.WriteString(r.Printed, printed)
	}
	return printed, err
}

// run returns what was printed, errors too: that is what the reader sees.
func (r Reader) run(ctx context.Context, b Block) (string, error) {
	command := exec.CommandContext
	if r.Command != nil {
		command = r.Command
	}
	cmd := command(ctx, "bash", "-euo", "pipefail", "-c", b.Text)
	cmd.Dir, cmd.Env = r.Dir, append(cmd.Env, r.Env...)
	out, err := cmd.CombinedOutput()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = exit.ExitCode(), nil
	}
	if err == nil && code != b.Exit {
		err = fmt.Errorf("exit code %d, want %d, of\n%s\nwhich printed\n%s", code, b.Exit, strings.TrimSpace(b.Text), out)
	}
	return string(out), err
}
