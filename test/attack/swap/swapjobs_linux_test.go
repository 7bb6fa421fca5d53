//go:build attack

package swap_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

const (
	// filePages is the size of a file: a volume has two, of canary all over.
	filePages   = 512
	canaryPages = 2 * filePages
	podUID      = "5ab1e0c2-8d11-4f6e-9c3a-0f1e2d3c4b5a"
)

// volumes is what the plugin is to volumes: a process that protected itself
// first, and a System.
type volumes struct {
	sys      *hardening.System
	detached []*hardening.Volume
}

// newVolumesJob protects the process first, as main does. Copies of a canary in
// unprotected memory would also count as pages of the volume.
func newVolumesJob() (job, error) {
	report, err := hardening.ProtectProcess()
	if err != nil {
		return job{}, err
	}
	if !report.Locked {
		return job{}, errors.New("process is not locked: " + report.LockReason)
	}
	v := &volumes{}
	return job{do: v.do}, nil
}

func (v *volumes) do(words []string) (answer string, err error) {
	switch verb, arg := words[0], words[1:]; verb {
	case "open":
		v.sys, err = hardening.Open(hardening.Config{KubeletRoot: arg[0], Protection: hardening.Setting(arg[1])})
	case "fill":
		var volume *hardening.Volume
		volume, err = v.fill(arg[0])
		v.detached = append(v.detached, volume)
	case "publish":
		err = v.publish(arg[0], arg[1])
	case "replace":
		err = v.replace(arg[0], arg[1])
	case "relock":
		var n int
		n, err = v.sys.Relock()
		answer = strconv.Itoa(n)
	case "plain":
		err = plainTmpfs(arg[0], arg[1])
	}
	return answer, err
}

// files are the two of a volume.
func files(canary string) []hardening.File {
	var list []hardening.File
	for _, name := range []string{"a", "b"} {
		list = append(list, hardening.File{Path: name, Mode: 0o400, Data: hardening.NewPlaintext(pagesOf(canary, filePages))})
	}
	return list
}

func wipe(files []hardening.File) {
	for _, f := range files {
		f.Data.Wipe()
	}
}

func limits() hardening.Limits {
	return hardening.Limits{Bytes: int64(canaryPages * os.Getpagesize())}
}

func (v *volumes) publish(name, canary string) error {
	target, err := v.sys.Target(podUID, name)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := target.Prepare(); err != nil {
		return err
	}
	volume, err := v.fill(canary)
	if err != nil {
		return err
	}
	defer volume.Close()
	return volume.Attach(target)
}

// fill makes a detached volume.
func (v *volumes) fill(canary string) (*hardening.Volume, error) {
	volume, err := v.sys.NewVolume(limits())
	if err != nil {
		return nil, err
	}
	list := files(canary)
	defer wipe(list)
	return volume, volume.Fill(list)
}

func (v *volumes) replace(name, canary string) error {
	target, err := v.sys.Target(podUID, name)
	if err != nil {
		return err
	}
	defer target.Close()
	volume, err := target.OpenVolume()
	if err != nil {
		return err
	}
	defer volume.Close()
	// As the driver does, whose budget says yes: an old generation that is
	// still open needs room beside the new one.
	volume.Allow(limits().Bytes, func(int64) error { return nil })
	list := files(canary)
	defer wipe(list)
	changed, err := volume.Replace(list)
	if err == nil && !changed {
		err = errors.New("nothing changed")
	}
	return err
}

// plainTmpfs is the positive control: the same pages, from the same process, on
// a tmpfs as mount(8) makes it.
func plainTmpfs(dir, canary string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "a"), pagesOf(canary, canaryPages), 0o600)
}

// pager looks at pages from outside. It knows no canary, and none of its memory
// is locked: a page that it mapped in a locked process would be locked too.
type pager struct {
	held   []*os.File
	mapped [][]byte
}

func newPagerJob() (job, error) {
	p := &pager{}
	return job{do: p.do}, nil
}

func (p *pager) do(words []string) (string, error) {
	switch verb, arg := words[0], words[1:]; verb {
	case "hold": // open, as a container has it that a subPath mount gave a file
		return "", p.hold(arg)
	case "map": // touched and mapped until the end, and never paged out by name
		return "", p.mapAll(arg)
	case "pageout":
		return "", p.pageout()
	}
	return "", errors.New("unknown verb")
}

func (p *pager) hold(names []string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		p.held = append(p.held, f)
	}
	return nil
}

func (p *pager) mapAll(names []string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := touched(f)
		if err != nil {
			return err
		}
		p.mapped = append(p.mapped, b)
	}
	return nil
}

// touched maps a file and reads a byte of each page.
func touched(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return b, touch(b)
}

func touch(b []byte) error {
	if len(b) == 0 {
		return errors.New("nothing is mapped")
	}
	var sum byte
	for i := 0; i < len(b); i += os.Getpagesize() {
		sum ^= b[i]
	}
	runtime.KeepAlive(sum)
	return nil
}

// pageout asks the kernel to write the pages of each held file to swap. Pages
// that another process maps too are left alone (madvise(2), MADV_PAGEOUT).
func (p *pager) pageout() error {
	for _, f := range p.held {
		b, err := touched(f)
		if err == nil {
			err = errors.Join(unix.Madvise(b, unix.MADV_PAGEOUT), unix.Munmap(b))
		}
		if err != nil {
			return fmt.Errorf("page out %s: %w", f.Name(), err)
		}
	}
	return nil
}

// process holds secrets in its memory.
type process struct {
	secrets []*hardening.Plaintext
}

func newProtectedJob() (job, error) {
	if _, err := hardening.ProtectProcess(); err != nil {
		return job{}, err
	}
	return newUnprotectedJob()
}

func newUnprotectedJob() (job, error) {
	p := &process{}
	return job{do: p.do}, nil
}

func (p *process) do(words []string) (string, error) {
	switch verb, arg := words[0], words[1:]; verb {
	case "hold":
		p.secrets = append(p.secrets, hardening.NewPlaintext(pagesOf(arg[0], canaryPages)))
		return "", nil
	case "pageout":
		return p.pageout(), nil
	}
	return "", errors.New("unknown verb")
}

// pageout asks for every page of each secret, and answers with what the kernel
// said: it is EINVAL where the pages are locked.
func (p *process) pageout() string {
	said := map[string]bool{}
	for _, s := range p.secrets {
		_ = s.Use(func(b []byte) error {
			if reflect.ValueOf(b).Pointer()%uintptr(os.Getpagesize()) != 0 {
				said["not a whole page"] = true // the other reason for EINVAL
			}
			said[fmt.Sprint(unix.Madvise(b, unix.MADV_PAGEOUT))] = true
			return nil
		})
	}
	return strings.Join(slices.Sorted(maps.Keys(said)), ", ")
}
