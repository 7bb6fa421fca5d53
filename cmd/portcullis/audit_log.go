package main

import (
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

// logOptions are the flags of commands that read an audit log.
type logOptions struct {
	file        string
	key         string
	checkpoints []string
}

func (o *logOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "audit log: the plugin's --state-dir/audit, a copy of it, or the file of one epoch (required)")
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

func (o *logOptions) read() (in logInputs, err error) {
	if o.file == "" {
		return in, &usageError{errors.New("--file is missing")}
	}
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
	text, hint, found := strings.Cut(err.Error(), "; hint: ")
	if !found {
		return err
	}
	return &hintedError{errors.New(text), hint}
}
