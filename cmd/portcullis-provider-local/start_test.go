package main_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	local "github.com/portcullis-csi/portcullis/cmd/portcullis-provider-local"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// asProgram makes the test binary the program, as a process of its own.
const asProgram = "PORTCULLIS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "1" {
		os.Exit(local.Run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

func TestRefusesToStart(t *testing.T) {
	for _, test := range []struct {
		name  string
		setUp func(t *testing.T, root, state string) (string, string)
		want  error
	}{
		{"state inside the root", func(_ *testing.T, root, _ string) (string, string) { return root, filepath.Join(root, "state") }, local.ErrInside},
		{"state is the root", func(_ *testing.T, root, _ string) (string, string) { return root, root }, local.ErrInside},
		{"state linked into the root", func(t *testing.T, root, state string) (string, string) {
			if err := os.Mkdir(filepath.Join(root, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return root, symlink(t, filepath.Join(root, "x"), state)
		}, local.ErrInside},
		{"no root", func(_ *testing.T, root, state string) (string, string) { return root + "x", state }, os.ErrNotExist},
		{"root open to everybody", func(t *testing.T, root, state string) (string, string) { chmod(t, root, 0o777); return root, state }, nil},
		{"state open to others", func(t *testing.T, root, state string) (string, string) {
			mkdir(t, state)
			chmod(t, state, 0o750)
			return root, state
		}, nil},
		{"short key", func(t *testing.T, root, state string) (string, string) {
			mkdir(t, state)
			write(t, filepath.Join(state, "version.key"), "short", 0o600)
			return root, state
		}, nil},
		{"key open to others", func(t *testing.T, root, state string) (string, string) {
			mkdir(t, state)
			write(t, filepath.Join(state, "version.key"), strings.Repeat("k", 32), 0o644)
			return root, state
		}, nil},
		{"key is a link", func(t *testing.T, root, state string) (string, string) {
			mkdir(t, state)
			symlink(t, "/dev/zero", filepath.Join(state, "version.key"))
			return root, state
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			mkdir(t, filepath.Join(dir, "secrets"))
			root, state := test.setUp(t, filepath.Join(dir, "secrets"), filepath.Join(dir, "state"))
			_, err := local.NewProvider(local.Config{Root: root, StateDir: state, MaxFileBytes: 10, Logger: slog.New(slog.DiscardHandler)})
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("NewProvider(...) = %v, want an error that is %v", err, test.want)
			}
		})
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) string {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"help", []string{"--help"}, 0, "--state-dir"},
		{"version", []string{"--version"}, 0, ""},
		{"no root", []string{"--state-dir=/nonexistent"}, 2, "--root is missing"},
		{"no state directory", []string{"--root=/nonexistent"}, 2, "--state-dir is missing"},
		{"no size", []string{"--root=/nonexistent", "--state-dir=/nonexistent", "--max-file-bytes=0"}, 2, "--max-file-bytes"},
		{"size above the protocol's", []string{"--root=/nonexistent", "--state-dir=/nonexistent", "--max-file-bytes=4194304"}, 2, "--max-file-bytes"},
		{"endpoint", []string{"--root=/nonexistent", "--state-dir=/nonexistent", "--endpoint=tcp://x"}, 2, "--endpoint"},
		{"unknown flag", []string{"--nonsense"}, 2, "nonsense"},
		{"argument", []string{"nonsense"}, 1, "nonsense"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := program(t, test.args...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != test.code || !strings.Contains(string(out), test.text) {
				t.Errorf("%q = %v, %s, want exit code %d and %q", test.args, err, out, test.code, test.text)
			}
			if test.code == 2 && !strings.Contains(string(out), "hint: ") {
				t.Errorf("%q = %s, want a hint", test.args, out)
			}
		})
	}
}

// The program serves, stops on SIGTERM with code 0 and takes its socket along, and
// starts over one that a killed program left.
func TestProgram(t *testing.T) {
	if swaps, err := os.ReadFile("/proc/swaps"); err == nil && strings.Count(string(swaps), "\n") > 1 {
		hardeningtest.NeedRoot(t) // to lock memory, without which the program refuses where swap is on
	}
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "secrets"))
	write(t, filepath.Join(dir, "secrets", "a"), "Xcanary7", 0o600)
	socket := filepath.Join(dir, "local.sock")
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		var log lockedBuffer
		cmd := program(t, "--endpoint=unix://"+socket, "--root="+filepath.Join(dir, "secrets"), "--state-dir="+filepath.Join(dir, "state"), "--log-format-json")
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, socket); got != "Xcanary7" {
			t.Errorf("Mount(a) = %q, want the secret; log:\n%s", got, log.String())
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); (err == nil) != (signal == syscall.SIGTERM) {
			t.Errorf("exit after %v = %v, want code 0 for SIGTERM only; log:\n%s", signal, err, log.String())
		}
		if _, err := os.Lstat(socket); errors.Is(err, os.ErrNotExist) != (signal == syscall.SIGTERM) {
			t.Errorf("the socket after %v: %v, want it gone after SIGTERM only", signal, err)
		}
		if strings.Contains(log.String(), "Xcanary7") || !strings.Contains(log.String(), `"serving"`) {
			t.Errorf("log = %s, want a start line and no content", log.String())
		}
	}
}

func fetch(t *testing.T, socket string) string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := v1alpha1.NewCSIDriverProviderClient(conn)
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := client.Mount(t.Context(), &v1alpha1.MountRequest{Attributes: `{"objects":"- objectName: a"}`})
		if err == nil {
			return string(got.GetFiles()[0].GetContents())
		}
		if time.Now().After(deadline) {
			t.Fatalf("Mount(...) = %v, want an answer within 20 s", err)
		}
		conn.ResetConnectBackoff()
		time.Sleep(20 * time.Millisecond)
	}
}
