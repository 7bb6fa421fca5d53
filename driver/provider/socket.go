package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/portcullis-csi/portcullis/hardening"
)

// socket is a provider's socket file as it was when looked at.
type socket struct {
	path string
	info fs.FileInfo
}

// same reports whether both are one and the same file. The time counts too,
// since file systems use inode numbers again.
func (s socket) same(o socket) bool {
	return s.path == o.path && os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime())
}

// validName reports whether name can be part of a socket's path. It is
// upstream's rule, except that upstream lets the empty name pass.
func validName(name string) bool {
	return regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}$`).MatchString(name)
}

// find looks for a provider's socket. The first directory that has one
// decides: going on to the next when a socket is not trusted would let whoever
// planted it hide behind a healthy mount.
func (d *Deliverer) find(name string) (socket, error) {
	if !validName(name) {
		return socket{}, &Error{Reason: ProviderNotFound, detail: "the name is not made of 1 to 30 letters, digits, _ and -"}
	}
	for _, dir := range d.config.Dirs {
		path := filepath.Join(dir, name+".sock")
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = hardening.CheckSocket(path, d.owners)
		}
		if err != nil {
			return socket{}, &Error{Reason: SocketUntrusted, Provider: name, detail: fmt.Sprintf("%q %s", path, distrust(err))}
		}
		return socket{path, info}, nil
	}
	return socket{}, &Error{Reason: ProviderNotFound, Provider: name, detail: fmt.Sprintf("looked for %s.sock in %q", name, d.config.Dirs)}
}

// distrust says what is wrong with a socket.
func distrust(err error) string {
	var e *hardening.SocketError
	if errors.As(err, &e) {
		return e.Reason
	}
	return "cannot be examined: " + innermost(err).Error()
}
