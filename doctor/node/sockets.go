package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
)

const (
	maxMessage   = 64 << 10
	maxReadiness = 64 << 10
)

// dial prepares a connection to a socket that root, or this user, serves.
func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///socket",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, err
			}
			if err := hardening.CheckPeer(conn, []int{0, os.Geteuid()}); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		}),
		grpc.WithAuthority("localhost"), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
}

// reachable returns why nobody can be asked at a socket, before gRPC, whose words
// for it are long.
func reachable(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it is not there")
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("it is not a socket")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return doctor.ErrUnserved
	case errors.Is(err, fs.ErrPermission):
		return errors.New("this user may not connect; hint: run doctor as root")
	case err != nil:
		return err
	}
	defer conn.Close()
	if err := hardening.CheckPeer(conn, []int{0, os.Geteuid()}); err != nil {
		return fmt.Errorf("it is served by somebody who is not root: %w; hint: find out who, then stop that", err)
	}
	return nil
}

// ask makes calls on a socket within the time of one probe.
func ask(ctx context.Context, c Config, path string, calls func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Probe)
	defer cancel()
	if err := reachable(ctx, path); err != nil {
		return err
	}
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	switch err := calls(ctx, conn); status.Code(err) {
	case codes.OK:
		return nil
	case codes.DeadlineExceeded:
		return fmt.Errorf("no answer within %v; hint: whoever serves it hangs, see its log", c.Probe)
	case codes.Unavailable:
		return errors.New("whoever serves it closed the connection, or speaks no gRPC")
	default:
		return errors.New("it answers with the code " + status.Code(err).String())
	}
}

func registration(ctx context.Context, c Config) doctor.Registration {
	r := doctor.Registration{Path: filepath.Join(c.Registry, c.Driver+"-reg.sock")}
	r.Err = ask(ctx, c, r.Path, func(ctx context.Context, conn *grpc.ClientConn) error {
		info, err := registerapi.NewRegistrationClient(conn).GetInfo(ctx, &registerapi.InfoRequest{})
		r.Name, r.Endpoint, r.Type, r.Versions = info.GetName(), info.GetEndpoint(), info.GetType(), info.GetSupportedVersions()
		return err
	})
	return r
}

func csiPlugin(ctx context.Context, c Config) doctor.Plugin {
	p := doctor.Plugin{Path: c.CSISocket}
	p.Err = ask(ctx, c, p.Path, func(ctx context.Context, conn *grpc.ClientConn) error {
		client := csi.NewIdentityClient(conn)
		info, err := client.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
		if err != nil {
			return err
		}
		p.Name, p.Version = info.GetName(), info.GetVendorVersion()
		answer, err := client.Probe(ctx, &csi.ProbeRequest{})
		p.Ready = answer.GetReady() == nil || answer.GetReady().GetValue() // absent is ready, says the CSI specification
		return err
	})
	return p
}

// providers asks every provider that has a socket file, as the plugin does.
func providers(ctx context.Context, c Config) doctor.Asked[[]doctor.Provider] {
	d, err := provider.New(provider.Config{
		Dirs: c.ProviderDirs, ProviderUIDs: c.ProviderUIDs, Timeout: c.Probe, ConnectTimeout: c.Probe, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return doctor.Asked[[]doctor.Provider]{Err: err}
	}
	// It waits for peers that do not read to take their farewell.
	defer func() { go d.Close() }()
	names := d.Providers()
	if len(names) > provider.MaxWatched {
		names = names[:provider.MaxWatched]
	}
	found := make([]doctor.Provider, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		asked.Go(func() {
			p := doctor.Provider{Name: name, Path: socketOf(c.ProviderDirs, name)}
			var says provider.Runtime
			if says, p.Err = d.Check(ctx, name); says.Name != "" {
				p.Runtime = says.Name + " " + says.Version
			}
			if e, known := errors.AsType[*provider.Error](p.Err); known {
				p.Hint = e.Hint()
			}
			found[i] = p
		})
	}
	asked.Wait()
	return doctor.Asked[[]doctor.Provider]{Value: found}
}

func socketOf(dirs []string, name string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name+".sock")
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return name + ".sock"
}

// ready reads /readyz of the first address where anybody answers.
func ready(ctx context.Context, c Config) (answer doctor.Asked[[]doctor.Condition], addr string) {
	for i, at := range c.HealthAddrs {
		conditions, err := readiness(ctx, c, at)
		if i == 0 || err == nil {
			answer, addr = doctor.Asked[[]doctor.Condition]{Value: conditions, Err: err}, at
		}
		if err == nil {
			break
		}
	}
	return answer, addr
}

func readiness(ctx context.Context, c Config, addr string) ([]doctor.Condition, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Probe)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", http.NoBody)
	if err != nil {
		return nil, errors.New("it is not an address; hint: give host:port")
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxReadiness},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(request)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer within %v", c.Probe)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, doctor.ErrUnserved
	case err != nil:
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReadiness))
	if err != nil {
		return nil, fmt.Errorf("no whole answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return parseReadiness(string(text)), nil
}
