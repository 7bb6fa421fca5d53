package provider_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
)

// childSocket is the variable that turns the test binary into a provider: the
// secret must not be in this process unless a delivery brings it here.
const childSocket = "PROVIDER_TEST_SOCKET"

// masked is the secret of the child, XORed with mask, the only form in which
// this process knows it.
const (
	masked = "\x0f\x91\x3c\xe2\x58\x77\xa4\x19\xcd\x60\xb3\x2e\x84\xf5\x1a\x4b"
	mask   = 0x5a
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childSocket); path != "" {
		if err := serveChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childService answers with files full of the secret.
type childService struct {
	v1alpha1.UnimplementedCSIDriverProviderServer
}

func (childService) Mount(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	secret := []byte(masked)
	for i := range secret {
		secret[i] ^= mask
	}
	content := map[string]string{}
	for name, size := range map[string]int{"small": 200, "middle": 5000, "large": 100_000} {
		content[name] = strings.Repeat(string(secret), size/len(secret))
	}
	return providertest.Response(content), nil
}

// serveChild serves until its standard input ends.
func serveChild(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	s := grpc.NewServer()
	v1alpha1.RegisterCSIDriverProviderServer(s, childService{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.Stop()
	}()
	fmt.Println("ready")
	return s.Serve(l)
}

// startChild starts the provider process and returns its socket directory.
func startChild(t *testing.T) string {
	t.Helper()
	dir := socketDir(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childSocket+"="+filepath.Join(dir, "local.sock"))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("provider process says %q, %v", line, err)
	}
	return dir
}

// forgetful takes files and keeps nothing.
type forgetful struct{ bytes int }

func (v *forgetful) Fill(files []hardening.File) error {
	for _, f := range files {
		v.bytes += f.Data.Len()
	}
	return nil
}

func (v *forgetful) Replace(files []hardening.File) (bool, error) { return true, v.Fill(files) }

// TestMemoryHoldsNoSecretAfterwards reads all memory of this process after
// deliveries from another one (promise P5). A few pieces are tolerated, since
// the runtime may save registers at any instruction; a copy through the vector
// registers alone would leave twelve. The control is the stock client, after
// the same number of calls.
func TestMemoryHoldsNoSecretAfterwards(t *testing.T) {
	const calls, tolerated, control = 20, 4, 500
	dir := startChild(t)
	d := deliverer(t, nil, dir)
	call := allowed(t, objects("small", "middle", "large"))
	volume := &forgetful{}
	call.Volume = volume
	// What an earlier run's control has left in this process does not count.
	before := scan(t)
	for range calls {
		if _, err := d.Deliver(t.Context(), call); err != nil {
			t.Fatalf("Deliver() = %v", err)
		}
	}
	if want := calls * (192 + 4992 + 100_000); volume.bytes != want {
		t.Errorf("%d bytes were delivered, want %d", volume.bytes, want)
	}
	found := scan(t) - before
	t.Logf("after %d deliveries of 105 kB: %d pieces of the secret in memory", calls, found)
	if found > tolerated {
		t.Errorf("%d pieces of the secret are in memory, want at most %d", found, tolerated)
	}

	stock, err := grpc.NewClient("unix:"+filepath.Join(dir, "local.sock"),
		grpc.WithAuthority("localhost"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer stock.Close()
	for range calls {
		_, err := v1alpha1.NewCSIDriverProviderClient(stock).Mount(t.Context(), &v1alpha1.MountRequest{})
		must(t, err)
	}
	found = scan(t)
	t.Logf("after as many calls of the stock client: %d", found)
	if found < control {
		t.Errorf("control: %d pieces after calls of the stock client, want at least %d", found, control)
	}
}

// scan counts the places in this process's memory that hold the secret.
func scan(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	mem, err := os.Open("/proc/self/mem")
	must(t, err)
	defer mem.Close()
	found := 0
	buffer := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		if to-from > 1<<30 {
			continue // shadow memory of the race detector: terabytes of nothing
		}
		for at := from; at < to; at += int64(len(buffer)) {
			n, err := mem.ReadAt(buffer[:min(int64(len(buffer)), to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) && n == 0 {
				continue // unmapped meanwhile, or not readable as [vvar]
			}
			found += count(buffer[:n])
		}
	}
	return found
}

// count counts the secret in p and overwrites p, which the scan comes across
// as well. Pieces that straddle two reads are missed.
func count(p []byte) int {
	found := 0
	for i := 0; i+len(masked) <= len(p); i++ {
		if p[i]^mask == masked[0] && isSecret(p[i:i+len(masked)]) {
			found++
		}
	}
	clear(p)
	return found
}

func isSecret(p []byte) bool {
	for i := range p {
		if p[i]^mask != masked[i] {
			return false
		}
	}
	return true
}
