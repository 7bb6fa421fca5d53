package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	local "github.com/portcullis-csi/portcullis/cmd/portcullis-provider-local"
	"github.com/portcullis-csi/portcullis/hardening"
)

// setup is a provider on a real socket.
type setup struct {
	root, state, socket string
	client              v1alpha1.CSIDriverProviderClient
	log                 *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a provider over files, given as path and content in turn.
func serve(t *testing.T, c local.Config, files ...string) *setup {
	t.Helper()
	dir := t.TempDir()
	s := &setup{root: filepath.Join(dir, "secrets"), state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "local.sock"), log: &lockedBuffer{}}
	if err := os.Mkdir(s.root, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(files); i += 2 {
		s.write(t, files[i], files[i+1])
	}
	c.Root, c.StateDir = s.root, s.state
	c.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if c.MaxFileBytes == 0 {
		c.MaxFileBytes = 1 << 20
	}
	s.run(t, c)
	return s
}

func (s *setup) run(t *testing.T, c local.Config) {
	t.Helper()
	p, err := local.NewProvider(c)
	if err != nil {
		t.Fatalf("NewProvider(...) = %v, want no error", err)
	}
	l, err := hardening.Listen(t.Context(), s.socket)
	if err != nil {
		t.Fatalf("Listen(...) = %v, want no error", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- local.Serve(ctx, l, p) }()
	conn, err := grpc.NewClient("unix://"+s.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	s.client = v1alpha1.NewCSIDriverProviderClient(conn)
	t.Cleanup(func() {
		conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve(...) = %v, want no error", err)
		}
		p.Close()
	})
}

func (s *setup) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mount asks as the driver does: parameters, the class's name, kubelet's keys.
func (s *setup) mount(t *testing.T, objects string, extra ...string) (*v1alpha1.MountResponse, error) {
	t.Helper()
	attributes := map[string]string{
		"objects": objects, "secretProviderClass": "db", "csi.storage.k8s.io/pod.name": "api-0",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"aud":{"token":"t"}}`,
	}
	for i := 0; i+1 < len(extra); i += 2 {
		attributes[extra[i]] = extra[i+1]
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return s.client.Mount(t.Context(), &v1alpha1.MountRequest{
		Attributes: string(text), Secrets: "{}", Permission: "288", TargetPath: "/nonexistent/portcullis/uid/secrets",
	})
}

type file struct {
	Path, Contents string
	Mode           int32
}

func filesOf(r *v1alpha1.MountResponse) []file {
	var files []file
	for _, f := range r.GetFiles() {
		files = append(files, file{f.GetPath(), string(f.GetContents()), f.GetMode()})
	}
	return files
}

func versionsOf(r *v1alpha1.MountResponse) map[string]string {
	versions := map[string]string{}
	for _, v := range r.GetObjectVersion() {
		versions[v.GetId()] = v.GetVersion()
	}
	return versions
}

func TestVersion(t *testing.T) {
	got, err := serve(t, local.Config{}).client.Version(t.Context(), &v1alpha1.VersionRequest{Version: "v1alpha1"})
	if err != nil || got.GetVersion() != "v1alpha1" || got.GetRuntimeName() != "portcullis-provider-local" || got.GetRuntimeVersion() == "" {
		t.Errorf("Version(...) = %v, %v, want v1alpha1 and this program", got, err)
	}
}

func TestMount(t *testing.T) {
	s := serve(t, local.Config{}, "a", "secret a", "dir/b", "secret b", "bytes", "\x00\xff\n")
	for _, test := range []struct {
		name, objects string
		want          []file
	}{
		{"one", "- objectName: a", []file{{"a", "secret a", 0o644}}},
		{"in a directory", "- objectName: dir/b", []file{{"dir/b", "secret b", 0o644}}},
		{"alias and mode", "- objectName: dir/b\n  objectAlias: c\n  filePermission: \"0400\"", []file{{"c", "secret b", 0o400}}},
		{"two in order", "- objectName: dir/b\n- objectName: a", []file{{"dir/b", "secret b", 0o644}, {"a", "secret a", 0o644}}},
		{"one object in two files", "- objectName: a\n- objectName: a\n  objectAlias: b", []file{{"a", "secret a", 0o644}, {"b", "secret a", 0o644}}},
		{"any bytes", "- objectName: bytes", []file{{"bytes", "\x00\xff\n", 0o644}}},
		{"mode within the protocol's range", "- objectName: a\n  filePermission: \"4755\"", []file{{"a", "secret a", 0o755}}},
		{"mode zero is the default", "- objectName: a\n  filePermission: \"0000\"", []file{{"a", "secret a", 0o644}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.mount(t, test.objects)
			if err != nil {
				t.Fatalf("Mount(%q) = %v, want no error", test.objects, err)
			}
			if diff := cmp.Diff(test.want, filesOf(got)); diff != "" {
				t.Errorf("Mount(%q) differs (-want +got):\n%s", test.objects, diff)
			}
			if got.GetObjectVersion() == nil || got.GetError().GetCode() != "" {
				t.Errorf("Mount(%q) = versions %v, error %v, want versions only", test.objects, got.GetObjectVersion(), got.GetError())
			}
		})
	}
}

// Wrong requests are refused in our own words, whole or not at all.
func TestMountRefuses(t *testing.T) {
	s := serve(t, local.Config{MaxFileBytes: 16}, "a", "secret a", "large", strings.Repeat("x", 17), "exact", strings.Repeat("x", 16), "empty", "")
	if err := syscall.Mkfifo(filepath.Join(s.root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.root), "outside"), []byte("Xcanary7"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"up": "../outside", "abs": filepath.Join(filepath.Dir(s.root), "outside"), "updir": "..", "loop": "loop", "state": "../state"} {
		if err := os.Symlink(target, filepath.Join(s.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, objects string
		code          codes.Code
	}{
		{"absent", "- objectName: b", codes.NotFound},
		{"below a file", "- objectName: a/b", codes.NotFound},
		{"one absent", "- objectName: a\n- objectName: b", codes.NotFound},
		{"parent", "- objectName: ../outside\n  objectAlias: x", codes.InvalidArgument},
		{"absolute", "- objectName: /etc/passwd\n  objectAlias: x", codes.InvalidArgument},
		{"link to the parent's file", "- objectName: up", codes.FailedPrecondition},
		{"absolute link", "- objectName: abs", codes.FailedPrecondition},
		{"through a link to the parent", "- objectName: updir/outside", codes.FailedPrecondition},
		{"key of the versions", "- objectName: state/version.key", codes.FailedPrecondition},
		{"link loop", "- objectName: loop", codes.FailedPrecondition},
		{"FIFO", "- objectName: fifo", codes.FailedPrecondition},
		{"directory", "- objectName: dir", codes.FailedPrecondition},
		{"too large", "- objectName: large", codes.ResourceExhausted},
		{"empty", "- objectName: empty", codes.Unavailable},
		{"other version", "- objectName: a\n  objectVersion: \"1\"", codes.NotFound},
		{"not readable for certain", "- objectName: yes", codes.InvalidArgument},
		{"no objects", "", codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.mount(t, test.objects)
			if status.Code(err) != test.code || got != nil {
				t.Errorf("Mount(%q) = %v, %v, want code %v", test.objects, got, err, test.code)
			}
			if text := fmt.Sprint(err) + s.log.String(); strings.Contains(text, "secret a") || strings.Contains(text, "Xcanary7") {
				t.Errorf("error and log = %s, want no content", text)
			}
		})
	}
	if got, err := s.mount(t, "- objectName: exact"); err != nil || len(got.GetFiles()) != 1 {
		t.Errorf("Mount(exact) = %v, want a file of the largest size", err)
	}
}

func TestMountRefusesParameters(t *testing.T) {
	s := serve(t, local.Config{}, "a", "secret a")
	for name, extra := range map[string][]string{
		"unknown parameter":  {"root", "/etc"},
		"literal credential": {"password", "Xcanary7"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.mount(t, "- objectName: a", extra...)
			if status.Code(err) != codes.InvalidArgument || strings.Contains(fmt.Sprint(err)+s.log.String(), "Xcanary7") {
				t.Errorf("Mount(%q) = %v, want InvalidArgument without the value", extra, err)
			}
		})
	}
	for _, attributes := range []string{"", "{", "[]", `{"objects":1}`} {
		_, err := s.client.Mount(t.Context(), &v1alpha1.MountRequest{Attributes: attributes})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("Mount(attributes %q) = %v, want InvalidArgument", attributes, err)
		}
	}
}

func TestReplyIsBounded(t *testing.T) {
	s := serve(t, local.Config{}, "a", strings.Repeat("x", 1<<20))
	var objects strings.Builder
	for i := range 4 {
		fmt.Fprintf(&objects, "- objectName: a\n  objectAlias: f%d\n", i)
	}
	if _, err := s.mount(t, objects.String()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("Mount(4 MiB) = %v, want ResourceExhausted", err)
	}
}

func TestChangedFileIsAChangedSecret(t *testing.T) {
	s := serve(t, local.Config{}, "a", "one")
	first, err := s.mount(t, "- objectName: a")
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "new", "two")
	if err := os.Rename(filepath.Join(s.root, "new"), filepath.Join(s.root, "a")); err != nil {
		t.Fatal(err)
	}
	second, err := s.mount(t, "- objectName: a")
	if err != nil {
		t.Fatal(err)
	}
	if filesOf(second)[0].Contents != "two" || versionsOf(first)["a"] == versionsOf(second)["a"] {
		t.Errorf("Mount after a change = %v, %v, want the new content and version", filesOf(second), versionsOf(second))
	}
	pinned := "- objectName: a\n  objectVersion: \"" + versionsOf(second)["a"] + "\""
	if _, err := s.mount(t, pinned); err != nil {
		t.Errorf("Mount(present version) = %v, want no error", err)
	}
}

// A file that is written in place while it is read is not served half.
func TestFileThatChangesWhileRead(t *testing.T) {
	var s *setup
	var mu sync.Mutex
	writes := 0
	limit := 1
	s = serve(t, local.Config{AfterRead: func() {
		mu.Lock()
		defer mu.Unlock()
		if writes < limit {
			writes++
			_ = os.WriteFile(filepath.Join(s.root, "a"), []byte(strings.Repeat("n", 8+writes)), 0o600)
		}
	}}, "a", "old")
	got, err := s.mount(t, "- objectName: a")
	if err != nil || filesOf(got)[0].Contents != strings.Repeat("n", 9) {
		t.Errorf("Mount(changed once) = %v, %v, want the new content", filesOf(got), err)
	}
	mu.Lock()
	limit = 100
	mu.Unlock()
	if _, err := s.mount(t, "- objectName: a"); status.Code(err) != codes.Unavailable {
		t.Errorf("Mount(changes for ever) = %v, want Unavailable", err)
	}
}

// A version is no digest of the content: it could be searched for.
func TestVersions(t *testing.T) {
	s := serve(t, local.Config{}, "a", "1234", "b", "1234")
	got, err := s.mount(t, "- objectName: a\n- objectName: b")
	if err != nil {
		t.Fatal(err)
	}
	v := versionsOf(got)
	if v["a"] == v["b"] || len(v["a"]) != 32 {
		t.Errorf("versions = %v, want 32 digits, other ones for each object", v)
	}
	other := serve(t, local.Config{}, "a", "1234")
	elsewhere, err := other.mount(t, "- objectName: a")
	if err != nil {
		t.Fatal(err)
	}
	if versionsOf(elsewhere)["a"] == v["a"] {
		t.Errorf("version with another key = %q, want another", v["a"])
	}
	info, err := os.Stat(filepath.Join(s.state, "version.key"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("version.key = %v, %v, want 32 bytes of mode 0600", info, err)
	}
}

func TestVersionsSurviveARestart(t *testing.T) {
	first := serve(t, local.Config{}, "a", "1")
	before, err := first.mount(t, "- objectName: a")
	if err != nil {
		t.Fatal(err)
	}
	second := &setup{root: first.root, state: first.state, socket: first.socket + "2"}
	second.run(t, local.Config{Root: first.root, StateDir: first.state, MaxFileBytes: 10, Logger: slog.New(slog.DiscardHandler)})
	after, err := second.mount(t, "- objectName: a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(versionsOf(before), versionsOf(after)); diff != "" {
		t.Errorf("versions after a restart differ (-want +got):\n%s", diff)
	}
}

// Many at once share nothing but the directory.
func TestConcurrentMounts(t *testing.T) {
	s := serve(t, local.Config{}, "a", "1")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got, err := s.client.Mount(ctx, &v1alpha1.MountRequest{Attributes: `{"objects":"- objectName: a"}`})
			if err != nil || len(got.GetFiles()) != 1 {
				t.Errorf("Mount(...) = %v, %v, want one file", got, err)
			}
		})
	}
	wg.Wait()
}
