package registration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/portcullis-csi/portcullis/hardening"
)

// DefaultInterval lies between two looks at the socket. A look is one lstat(2),
// so that seconds cost nothing; inotify would have to follow the directory and
// whatever is above it through being removed and made again, and kubelet may
// be away for as long in any case.
const DefaultInterval = 2 * time.Second

// maxSocketPath is how much of sockaddr_un's sun_path a name may fill (unix(7)).
const maxSocketPath = 107

// What a peer may send: two tiny messages.
const (
	maxMessage = 64 << 10
	maxCalls   = 16
)

// Keys of log lines.
const (
	keyPath     = "path"
	keyEndpoint = "endpoint"
	keyError    = "error"
	keyKubelet  = "kubeletSays"
)

// Why kubelet does not know the plugin.
var (
	// ErrWaiting means that the socket is there and kubelet has not called.
	ErrWaiting = errors.New("kubelet has not registered the plugin; hint: check that --plugin-registration-dir is kubelet's plugins_registry directory")
	// ErrRefused means that kubelet called, and could not register the plugin.
	ErrRefused = errors.New("kubelet could not register the plugin; hint: the plugin's log has kubelet's words; check that the API server answers kubelet, and that --kubelet-registration-path is the CSI socket as kubelet sees it")
)

var errNotYet = errors.New("the socket for kubelet's registration is not there yet; hint: wait until the plugin serves")

// Config of a Registrar. Every field is required but where it says otherwise.
type Config struct {
	Dir        string        // kubelet's plugins_registry, as this process sees it
	DriverName string        // CSI driver name, as in the CSIDriver object
	Endpoint   string        // path of the CSI socket, as kubelet sees it
	Interval   time.Duration // between looks at the socket; 0 means DefaultInterval
	Logger     *slog.Logger
}

func (c Config) check() error {
	absolute := func(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }
	switch {
	case !absolute(c.Dir):
		return fmt.Errorf("configure kubelet registration: Dir %q is not an absolute path without dots", c.Dir)
	case !absolute(c.Endpoint):
		return fmt.Errorf("configure kubelet registration: Endpoint %q is not an absolute path without dots", c.Endpoint)
	case c.DriverName == "" || filepath.Base(c.DriverName) != c.DriverName:
		return fmt.Errorf("configure kubelet registration: DriverName %q is not a name", c.DriverName)
	case len(c.socket()) > maxSocketPath:
		return fmt.Errorf("configure kubelet registration: %s has %d bytes, a socket's path has %d at most; choose a shorter Dir", c.socket(), len(c.socket()), maxSocketPath)
	case c.Interval < 0:
		return errors.New("configure kubelet registration: Interval is negative")
	case c.Logger == nil:
		return errors.New("configure kubelet registration: Logger is missing")
	}
	return nil
}

// socket is the path that node-driver-registrar uses, so that the two cannot
// both register one driver.
func (c Config) socket() string { return filepath.Join(c.Dir, c.DriverName+"-reg.sock") }

// Registrar serves kubelet's plugin registration.
type Registrar struct {
	c Config

	mu    sync.Mutex
	state error // why kubelet does not know the plugin; nil if it does
	apart error // why there is no socket; nil if there is one

	last *served // of a Run that has ended
}

// New returns a Registrar, or an error that names the field in the way.
func New(c Config) (*Registrar, error) {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Registrar{c: c, state: ErrWaiting, apart: errNotYet}, nil
}

// Err returns nil once kubelet has registered the plugin and while the socket
// is in place; otherwise why not, in one line that names a remedy.
func (r *Registrar) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.apart, r.state)
}

// Run serves the socket, and makes it anew when it vanished, until ctx ends.
// It leaves the socket in place, for Withdraw.
func (r *Registrar) Run(ctx context.Context) {
	ticker := time.NewTicker(r.c.Interval)
	defer ticker.Stop()
	var s *served
	defer func() {
		s.stop()
		r.last = s
	}()
	for {
		if !s.inPlace() {
			s.stop()
			s = r.listen(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Withdraw removes the socket that Run left, unless it is another's by now.
// Kubelet then forgets the driver. It is called after Run has returned.
func (r *Registrar) Withdraw() error {
	if r.last == nil {
		return nil
	}
	return r.last.socket.Remove()
}

// listen makes the socket and serves it; nil if it cannot be made now.
func (r *Registrar) listen(ctx context.Context) *served {
	l, err := hardening.Listen(ctx, r.c.socket())
	if err != nil {
		r.standApart(err)
		return nil
	}
	r.inPlace()
	r.c.Logger.Info("waiting for kubelet to register the plugin", slog.String(keyPath, r.c.socket()), slog.String(keyEndpoint, r.c.Endpoint))
	s := &served{socket: l, done: make(chan struct{})}
	s.server = grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxCalls))
	registerapi.RegisterRegistrationServer(s.server, service{r: r})
	go s.serve(l)
	return s
}

// standApart notes why there is no socket; the log tells it once, not at every
// look.
func (r *Registrar) standApart(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := fmt.Errorf("no socket for kubelet's registration: %w; hint: mount kubelet's plugins_registry at --plugin-registration-dir, and run no node-driver-registrar beside the plugin", cause)
	if r.apart == nil || r.apart.Error() != err.Error() {
		r.c.Logger.Warn("kubelet cannot register the plugin", slog.String(keyPath, r.c.socket()), slog.Any(keyError, cause))
	}
	r.apart = err
}

// inPlace notes a new socket. Kubelet takes it for a new plugin: it forgets the
// old one and calls again.
func (r *Registrar) inPlace() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apart, r.state = nil, ErrWaiting
}

// settle notes what became of a registration, and whether that is news.
func (r *Registrar) settle(state error) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = !errors.Is(state, r.state)
	r.state = state
	return news
}

// served is one socket with its server.
type served struct {
	socket *hardening.Socket
	server *grpc.Server
	done   chan struct{}
}

// serve ends with stop, or when the listener fails.
func (s *served) serve(l net.Listener) {
	defer close(s.done)
	_ = s.server.Serve(l) // inPlace tells, and the next look listens anew
}

// inPlace reports whether the socket is still the one that is served.
func (s *served) inPlace() bool {
	if s == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
	}
	return s.socket.InPlace()
}

// stop ends the server. The file stays, if it is there: see hardening.Listen.
func (s *served) stop() {
	if s == nil {
		return
	}
	s.server.Stop()
	<-s.done
}
