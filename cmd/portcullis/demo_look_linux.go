package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// mountEntry is one line of /proc/self/mountinfo (proc(5)).
type mountEntry struct {
	id, point, options, superOptions string
}

func mountTable() ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var table []mountEntry
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) >= 6 && len(r) >= 3 {
			table = append(table, mountEntry{l[0], l[4], l[5], r[2]})
		}
	}
	return table, nil
}

// errNotMounted means that nothing is mounted at the path.
var errNotMounted = errors.New("nothing is mounted there")

func mountAt(path string) (mountEntry, error) {
	table, err := mountTable()
	if err != nil {
		return mountEntry{}, err
	}
	for _, m := range table {
		if m.point == path {
			return m, nil
		}
	}
	return mountEntry{}, errNotMounted
}

func mountOptions(path string) (string, error) {
	m, err := mountAt(path)
	return m.options + "," + m.superOptions, err
}

func mountID(path string) (string, error) {
	m, err := mountAt(path)
	return m.id, err
}

func mountsBelow(dir string) ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range table {
		if strings.HasPrefix(m.point, dir+"/") {
			points = append(points, m.point)
		}
	}
	return points, nil
}

// listFiles shows names, owners, modes and sizes: never content.
func listFiles(target string, n *narrator) error {
	entries, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		info, err := os.Stat(filepath.Join(target, e.Name()))
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no owner in the file's status")
		}
		n.line("%s  owner %d:%d  %3d bytes  %s", info.Mode(), st.Uid, st.Gid, info.Size(), e.Name())
	}
	return nil
}

// expectContent compares a file with the provider's value and prints neither.
func (s *stage) expectContent(target, file, object string) error {
	got, err := os.ReadFile(filepath.Join(target, file))
	if err != nil {
		return err
	}
	if string(got) != s.secrets[object] {
		return fmt.Errorf("file %s does not hold what the provider has for %s", file, object)
	}
	return nil
}

// reader is whom a process runs as.
type reader struct {
	uid, gid uint32
	groups   []uint32
}

// errReaderRefused means that the kernel denied the reader the file.
var errReaderRefused = errors.New("permission denied")

const readerRefusedCode = 13 // EACCES

// readAs reads a file of the volume in a process with other credentials. The
// process gets the volume as a descriptor, as a container gets it as a mount:
// the directories above it do not count.
func readAs(ctx context.Context, target, file string, r reader) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	// By descriptor too: the other user may not reach our directory.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/4", demoReaderName, file) //nolint:gosec // our own program
	cmd.ExtraFiles = []*os.File{dir, self}
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.uid, Gid: r.gid, Groups: r.groups}}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == readerRefusedCode {
		return errReaderRefused
	}
	return err
}

const demoReaderName = "demo-reader"

// demoReaderCommand is the program of readAs: it reads a file below
// descriptor 3, prints nothing, and tells by its exit code.
func demoReaderCommand() *cobra.Command {
	return &cobra.Command{
		Use: demoReaderName + " FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(filepath.Join("/proc/self/fd/3", args[0]))
			if errors.Is(err, os.ErrPermission) {
				return errReaderRefused
			}
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(io.Discard, f)
			return err
		},
	}
}
