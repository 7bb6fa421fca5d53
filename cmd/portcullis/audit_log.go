package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// maxSmallFile bounds what is read of keys and checkpoints.
const maxSmallFile = 4 << 20

// logOptions are the flags of commands that read an audit log: that of a
// plugin that runs, or files that nobody writes to.
type logOptions struct {
	socket      socketFlag
	file        string
	key         string
	checkpoints []string
}

func (o *logOptions) add(cmd *cobra.Command) {
	o.socket.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "instead of --socket: the --state-dir/audit of a plugin that is stopped, a copy of it, or the file of one epoch")
	o.addKey(cmd, "default: node.vkey beside the log, which proves less")
}

func (o *logOptions) addKey(cmd *cobra.Command, key string) {
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "file with the public key of the node's log, of any time ("+key+")")
	f.StringSliceVar(&o.checkpoints, "checkpoint", nil, "comma separated files with checkpoints of this log that were kept elsewhere")
}

// logInputs is what the files say that the flags name.
type logInputs struct {
	vkey  string
	known [][]byte
}

// on runs a command on the files that --file names, or on a snapshot of the log
// of the plugin behind --socket.
func (o *logOptions) on(cmd *cobra.Command, run func(context.Context) error) error {
	if err := refuseBoth(cmd, o.file); err != nil {
		return err
	}
	if o.file != "" {
		return run(cmd.Context())
	}
	dir, cleanup, err := snapshotDir(cmd.Context(), o.socket)
	if err != nil {
		return err
	}
	defer cleanup()
	o.file = dir
	return ofSnapshot(run(cmd.Context()))
}

// ofSnapshot says where the evidence is: what the error names is gone.
func ofSnapshot(err error) error {
	if found, ok := errors.AsType[*hintedError](err); ok && strings.Contains(found.Error(), " was altered or damaged: ") {
		return &hintedError{found.err, "that was a snapshot; stop the plugin, copy its --state-dir/audit as evidence, and compare it with what was shipped"}
	}
	return err
}

func (o *logOptions) read() (in logInputs, err error) {
	name := o.key
	if name == "" {
		name = filepath.Join(besideLog(o.file), auditlog.VKeyFileName)
	}
	return o.readInputs(name)
}

func (o *logOptions) readInputs(key string) (in logInputs, err error) {
	text, err := readSmallFile(key)
	if err != nil {
		return in, &hintedError{fmt.Errorf("read the log's public key: %w", err), "copy node.vkey from the plugin's --state-dir/audit, or name it with --key"}
	}
	in.vkey = string(text)
	for _, name := range o.checkpoints {
		text, err := readSmallFile(name)
		if err != nil {
			return in, fmt.Errorf("read checkpoint: %w", err)
		}
		in.known = append(in.known, text)
	}
	return in, nil
}

// besideLog is the directory of a log that is a directory or a file.
func besideLog(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

func readSmallFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f, name)
}

// readSmall reads what is to be small from anywhere.
func readSmall(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSmallFile+1))
	if err == nil && len(text) > maxSmallFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxSmallFile)
	}
	return text, err
}

// hinted splits the hint off, as every error of this command line has it.
func hinted(err error) error {
	if err == nil {
		return nil
	}
	text, hint, found := splitHint(err.Error())
	if !found {
		return err
	}
	return &hintedError{errors.New(text), hint}
}
