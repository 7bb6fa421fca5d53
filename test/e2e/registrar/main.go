// Command registrar stands in for the two other containers of the upstream
// driver's DaemonSet, node-driver-registrar and livenessprobe, which the Go
// module proxy does not serve. It takes their flags, and does what kubelet sees
// of them:
//
//	registrar --csi-address=/csi/csi.sock --kubelet-registration-path=PATH
//	registrar --csi-address=/csi/csi.sock --http-endpoint=0.0.0.0:9808
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrationDir is where the DaemonSet mounts kubelet's plugins_registry.
const registrationDir = "/registration"

func main() {
	address := flag.String("csi-address", "", "socket of the driver")
	path := flag.String("kubelet-registration-path", "", "the same as kubelet sees it: register the driver")
	endpoint := flag.String("http-endpoint", "", "address of /healthz: tell whether the driver answers")
	flag.Duration("probe-timeout", time.Second, "unused: kubelet's own limit counts")
	flag.Int("v", 0, "unused: log verbosity")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *path, *endpoint); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address, path, endpoint string) error {
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	driver := csi.NewIdentityClient(conn)
	if endpoint != "" {
		return serveHealth(ctx, endpoint, driver)
	}
	info, err := driver.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("ask the driver for its name: %w", err)
	}
	return register(ctx, info.GetName(), path)
}

// register serves the registration until the end, and then takes it back.
func register(ctx context.Context, driver, path string) error {
	socket := filepath.Join(registrationDir, driver+"-reg.sock")
	if err := os.RemoveAll(socket); err != nil { // of one that was killed
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	registerapi.RegisterRegistrationServer(s, service{driver: driver, endpoint: path})
	go func() {
		<-ctx.Done()
		s.Stop() // removes the socket
	}()
	return s.Serve(l)
}

// service is the registration, as kubelet asks for it.
type service struct {
	registerapi.UnimplementedRegistrationServer
	driver, endpoint string
}

// GetInfo tells kubelet what the driver is and where its socket is.
func (s service) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: s.driver, Endpoint: s.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus ends the process where kubelet refused: the container
// starts anew, as node-driver-registrar's does.
func (s service) NotifyRegistrationStatus(_ context.Context, status *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if !status.GetPluginRegistered() {
		log.Fatalf("kubelet refused the registration: %s", status.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

func serveHealth(ctx context.Context, address string, driver csi.IdentityClient) error {
	s := &http.Server{Addr: address, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := driver.Probe(r.Context(), &csi.ProbeRequest{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	go func() {
		<-ctx.Done()
		_ = s.Close()
	}()
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
