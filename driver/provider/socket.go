package provider

import (
	"context"
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
// decides, as with upstream: going on to the next when a socket is not trusted
// would let whoever planted it hide behind a healthy mount. Only a trusted
// socket that nobody serves, which a killed provider leaves behind, and which
// upstream then calls for ever, gives way to one that somebody does serve.
func (d *Deliverer) find(ctx context.Context, name string) (socket, error) {
	if !validName(name) {
		return socket{}, &Error{Reason: ProviderNotFound, detail: "the name is not made of 1 to 30 letters, digits, _ and -"}
	}
	found, err := d.candidates(name)
	if err != nil {
		return socket{}, err
	}
	for _, s := range found {
		if err := hardening.CheckSocket(s.path, d.owners); err != nil {
			return socket{}, untrusted(name, s.path, err)
		}
		if len(found) == 1 || !d.abandoned(ctx, name, s) {
			return s, nil
		}
	}
	if len(found) == 0 {
		return socket{}, &Error{Reason: ProviderNotFound, Provider: name, detail: fmt.Sprintf("looked for %s.sock in %q", name, d.config.Dirs)}
	}
	return found[0], nil // where a provider that restarts is waited for
}

// candidates are the files of that name, in the order of the directories.
func (d *Deliverer) candidates(name string) ([]socket, error) {
	var found []socket
	for _, dir := range d.config.Dirs {
		path := filepath.Join(dir, name+".sock")
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && len(found) == 0:
			return nil, untrusted(name, path, err)
		case err == nil:
			found = append(found, socket{path, info})
		}
	}
	return found, nil
}

// abandoned reports whether nobody serves a socket. One that is connected need
// not be asked.
func (d *Deliverer) abandoned(ctx context.Context, name string, s socket) bool {
	return !d.upstream(name).connected(s) && hardening.SocketAbandoned(ctx, s.path)
}

func untrusted(name, path string, err error) error {
	return &Error{Reason: SocketUntrusted, Provider: name, detail: fmt.Sprintf("%q %s", path, distrust(err))}
}

// distrust says what is wrong with a socket.
func distrust(err error) string {
	var e *hardening.SocketError
	if errors.As(err, &e) {
		return e.Reason
	}
	return "cannot be examined: " + innermost(err).Error()
}
