// The programs that are started here are no race builds: the race detector would
// see nothing of them.

//go:build !race

package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// programs builds all of them into one directory, as make demo does.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "insecure", "-o", dir+"/", "../...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

func TestDemo(t *testing.T) {
	hardeningtest.NeedRoot(t)
	bin := programs(t)
	t.Run("plays to the end and leaks nothing", func(t *testing.T) { demoToTheEnd(t, bin) })
	t.Run("clears up after an interrupt", func(t *testing.T) { demoInterrupted(t, bin) })
	t.Run("says what it needs without root", func(t *testing.T) { demoWithoutRoot(t, bin) })
	t.Run("fails when a step is not as told", func(t *testing.T) { demoBroken(t, bin) })
}

// demoToTheEnd is also promise P5's canary test: nothing that the demo prints
// or stores, but the provider's own directory, holds a secret in any encoding.
func demoToTheEnd(t *testing.T, bin string) {
	keep := filepath.Join(t.TempDir(), "kept")
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "portcullis"), "demo", "--keep", keep).CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for _, want := range []string{"All 9 steps went as told.", "PR-001", "PR-010", "permission denied", "noswap", "OK: ", "was altered or damaged"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
	secrets := map[string][]byte{}
	collect(t, filepath.Join(keep, "secrets"), func(path string, content []byte) { secrets[path] = content })
	if len(secrets) != 3 {
		t.Fatalf("secrets found = %d, want 3", len(secrets))
	}
	seen := 0
	check := func(where string, content []byte) {
		seen++
		for path, secret := range secrets {
			if name := leaked(content, secret); name != "" {
				t.Errorf("%s holds the secret of %s (%s)", where, filepath.Base(path), name)
			}
		}
	}
	check("the output", out)
	collect(t, keep, func(path string, content []byte) {
		if !strings.HasPrefix(path, filepath.Join(keep, "secrets")+"/") {
			check(path, content)
		}
	})
	if seen < 10 {
		t.Errorf("looked at %d files, want the logs, the audit log and all else", seen)
	}
	// The control: a leak would be found.
	for _, secret := range secrets {
		if leaked([]byte("x"+base64.StdEncoding.EncodeToString(append([]byte("p"), secret...))), secret) == "" {
			t.Error("the search does not find a secret in base64")
		}
	}
}

func collect(t *testing.T, dir string, f func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		f(path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// leaked names the encoding in which content holds the secret or a piece of it.
func leaked(content, secret []byte) string {
	forms := map[string][]byte{"hex": []byte(hex.EncodeToString(secret))}
	for i := 0; i+12 <= len(secret); i += 4 {
		forms["plain"+string(rune('a'+i))] = secret[i : i+12]
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		forms["base64"+string(rune('a'+shift))] = []byte(text[4 : len(text)-4])
	}
	for name, form := range forms {
		if bytes.Contains(content, form) {
			return name
		}
	}
	return ""
}

// lines collects output and can be asked while it grows.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func demoInterrupted(t *testing.T, bin string) {
	var out lines
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "portcullis"), "demo")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(out.String(), "[2/9]") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	// A terminal sends it to the whole group.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit = %v, want 1\n%s", err, out.String())
	}
	dir := regexp.MustCompile(`working in +(\S+)`).FindStringSubmatch(out.String())
	if dir == nil {
		t.Fatalf("no directory named:\n%s", out.String())
	}
	if _, err := os.Lstat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s after an interrupt: %v, want it gone", dir[1], err)
	}
	if left := processesWith(t, dir[1]); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
}

// processesWith lists the command lines that name dir.
func processesWith(t *testing.T, dir string) (found []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(dir)) {
			found = append(found, string(text))
		}
	}
	return found
}

func demoWithoutRoot(t *testing.T, bin string) {
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(filepath.Join(bin, "portcullis"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3", "demo")
	cmd.ExtraFiles = []*os.File{program}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("needs root")) || !bytes.Contains(out, []byte("hint: run: sudo make demo")) {
		t.Errorf("demo without root = %v\n%s", err, out)
	}
}

// demoBroken breaks the provider's program: the demo must not pretend.
func demoBroken(t *testing.T, bin string) {
	program := filepath.Join(bin, "portcullis-provider-local")
	if err := os.WriteFile(program+".new", []byte("#!/bin/sh\necho broken; exit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "portcullis"), "demo")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("portcullis-provider-local ended: broken")) {
		t.Errorf("demo without a provider = %v\n%s", err, out)
	}
}
