//go:build attack

package swap_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

const swapBytes = 256 << 20

// swapArea is a swap file of the test's own. It is on as short as can be, since
// it is on for the whole machine.
type swapArea struct {
	keeper *child
	path   string
}

// newSwapArea makes a file of zeros that the kernel takes for swap, where there
// is a place for one.
func newSwapArea(t *testing.T, keeper *child) *swapArea {
	t.Helper()
	for _, program := range []string{"mkswap", "swapon", "swapoff"} {
		if _, err := exec.LookPath(program); err != nil {
			hardeningtest.Missing(t, "needs swapon(8) and its kin: "+err.Error())
		}
	}
	if enabled, err := os.ReadFile("/sys/module/zswap/parameters/enabled"); err == nil && strings.TrimSpace(string(enabled)) == "Y" {
		hardeningtest.Missing(t, "zswap is enabled: it holds in memory, compressed, what should reach the swap file")
	}
	var refusals []error
	for _, dir := range []string{t.TempDir(), "/var/tmp", "."} {
		a, err := tryArea(t, keeper, dir)
		if err == nil {
			return a
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", dir, err))
	}
	hardeningtest.Missing(t, "needs a disk file system that takes a swap file: "+errors.Join(refusals...).Error())
	return nil
}

func tryArea(t *testing.T, keeper *child, dir string) (*swapArea, error) {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	a := &swapArea{keeper: keeper, path: filepath.Join(dir, "portcullis-swap-"+rand.Text())}
	keeper.ask(t, "file", a.path)
	if err := a.zero(); err != nil {
		return nil, errors.Join(err, os.Remove(a.path))
	}
	err = run("mkswap", a.path)
	if err == nil {
		_, err = keeper.try("swapon", a.path)
	}
	if err == nil {
		_, err = keeper.try("swapoff", a.path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(a.path))
	}
	return a, nil
}

// zero writes every block. Where the file has a hole swapon refuses it, and
// what the kernel swaps into blocks that are allocated but not written would
// still read as zeros from the file. It does not go through the page cache, as
// swap does not either.
func (a *swapArea) zero() error {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk, err := alignedChunk()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(chunk) }()
	for range swapBytes / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return f.Sync()
}

// alignedChunk is memory as O_DIRECT wants it (open(2)).
func alignedChunk() ([]byte, error) {
	return unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

func (a *swapArea) on(t *testing.T) {
	t.Helper()
	a.keeper.ask(t, "swapon", a.path)
}

// off ends the use of the area. The kernel reads back what is in it and erases
// nothing; whatever was on its way to the disk has got there afterwards.
func (a *swapArea) off(t *testing.T) {
	t.Helper()
	areas, err := swapAreas()
	if err != nil {
		t.Fatal(err)
	}
	if use, on := areas[a.path]; !on || use[0] >= use[1] {
		t.Errorf("%d of %d kB of the swap file are used, want it on and not full: pages may be in another area", use[0], use[1])
	}
	a.keeper.ask(t, "swapoff", a.path)
}

// count returns how many pages of the area hold each of the canaries.
func (a *swapArea) count(t *testing.T, canaries [][]byte) []int {
	t.Helper()
	f, err := os.OpenFile(a.path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk, err := alignedChunk()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(chunk) }()
	counts := make([]int, len(canaries))
	page := os.Getpagesize()
	empty := make([]byte, page)
	for read := 0; read < swapBytes; {
		n, err := f.Read(chunk)
		if err != nil || n%page != 0 {
			t.Fatalf("read the swap file: %d bytes, %v", n, err)
		}
		read += n
		for b := chunk[:n]; len(b) > 0; b = b[page:] {
			if !bytes.Equal(b[:page], empty) {
				countIn(b[:page], canaries, counts)
			}
		}
	}
	return counts
}

func countIn(page []byte, canaries [][]byte, counts []int) {
	for i, c := range canaries {
		if bytes.Contains(page, c) {
			counts[i]++
		}
	}
}

// newCanary is different in each run, so that no old disk block can match. It
// is text, so that it can be a token too.
func newCanary() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return []byte(hex.EncodeToString(b))
}

// pagesOf is content in which every page holds the canary, wherever it begins.
func pagesOf(canary string, pages int) []byte {
	n := pages * os.Getpagesize()
	return bytes.Repeat([]byte(canary), n/len(canary)+1)[:n]
}
