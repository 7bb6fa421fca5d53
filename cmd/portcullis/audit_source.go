package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/hardening"
)

// defaultSocket is that of the default --state-dir of the plugin.
const defaultSocket = "/var/lib/portcullis/" + admin.SocketName

// socketFlag is where the plugin is asked.
type socketFlag struct{ path string }

func (s *socketFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.path, "socket", defaultSocket, "admin socket of the plugin that runs on this node, admin.sock in its --state-dir")
}

// client returns a client that believes root and the own user.
func (s *socketFlag) client() *admin.Client {
	return admin.Dial(s.path, func(conn net.Conn) error { return hardening.CheckPeer(conn, []int{0, os.Geteuid()}) })
}

// refuseBoth keeps --file and --socket apart: one of them would be ignored.
func refuseBoth(cmd *cobra.Command, file string) error {
	if file != "" && cmd.Flags().Changed("socket") {
		return &usageError{errors.New("--file and --socket exclude each other")}
	}
	return nil
}

const (
	mib = 1 << 20
	// spareBytes stays free beside a snapshot: on the disk of a node's log, a full
	// disk stops granting.
	spareBytes = 256 * mib
)

// snapshotDir takes a snapshot of a running plugin's log into a directory of
// its own, which cleanup removes.
func snapshotDir(ctx context.Context, s socketFlag) (dir string, cleanup func(), err error) {
	client := s.client()
	epochs, err := client.Epochs(ctx)
	if err != nil {
		return "", nil, hinted(err)
	}
	dir, err = os.MkdirTemp("", "portcullis-snapshot-") // mode 0700
	if err != nil {
		return "", nil, fmt.Errorf("make directory for the snapshot: %w", err)
	}
	cleanup = func() { _ = os.RemoveAll(dir) } // a copy that stays harms nobody
	limit, err := snapshotLimit(dir, epochs)
	if err == nil {
		err = client.Snapshot(ctx, dir, limit)
	}
	if err != nil {
		cleanup()
		return "", nil, hinted(err)
	}
	return dir, cleanup, nil
}

// snapshotLimit is how large a snapshot may be: what the log is now and some
// growth, and never what the disk needs for itself.
func snapshotLimit(dir string, epochs []admin.Epoch) (int64, error) {
	total := int64(0)
	for _, e := range epochs {
		total += max(e.Bytes, 0)
	}
	free, err := hardening.FreeBytes(dir)
	if err != nil {
		return 0, err
	}
	if total > free-spareBytes {
		return 0, fmt.Errorf("the snapshot of %d MiB does not fit at %s beside %d MiB that must stay free; hint: set TMPDIR to a directory with room", total/mib, dir, spareBytes/mib)
	}
	return min(free-spareBytes, total+total/2+spareBytes), nil
}
