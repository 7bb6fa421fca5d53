package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Spec is what a node is made of.
type Spec struct {
	// Dir holds the lab's files, at the same path inside and outside the node:
	// the control socket, and a log of each daemon below "log".
	Dir string

	// Hostname is the node's name.
	Hostname string

	// Binds are directories of the machine that the node sees at the same path,
	// Dirs are made in the node.
	Binds, Dirs []string

	// Addresses are given to the node's own interface.
	Addresses []string

	// Limit ends the node.
	Limit time.Duration

	// Daemons run in the node. They are started on request.
	Daemons []Daemon
}

// Daemon is a program that runs until it is told to stop: it is started again
// when it ends before that.
type Daemon struct {
	Name string
	Args []string // the path of the program first
	Env  []string
}

// specFile is the name of the Spec in its directory.
const specFile = "node.json"

// write puts the Spec where the first process reads it.
func (s Spec) write() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, specFile), text, 0o600)
}

// readSpec reads what write wrote.
func readSpec(dir string) (Spec, error) {
	var s Spec
	text, err := os.ReadFile(filepath.Join(dir, specFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", specFile, err)
	}
	return s, nil
}

// log is the path of a daemon's output.
func (s Spec) log(name string) string { return filepath.Join(s.Dir, "log", name+".log") }

// Socket is the path of the control socket of the node with this directory.
func Socket(dir string) string { return filepath.Join(dir, "control.sock") }
