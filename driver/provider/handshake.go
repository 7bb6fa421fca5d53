package provider

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// apiVersion is the protocol that this package speaks.
const apiVersion = "v1alpha1"

// handshakeTimeout bounds the wait for an answer to Version. The upstream
// driver mounts without asking, so one that never answers has to work too.
const handshakeTimeout = 2 * time.Second

// maxVersionReply is more than three words need, in bytes.
const maxVersionReply = 4 << 10

// handshake is what a connection's provider said of the protocol it speaks.
type handshake struct {
	asking chan struct{} // taken by the one call that asks

	// Guarded by conn.mu.
	dials int    // connections opened so far; each may lead to another process
	asked int    // that of them which the answer is from; 0 before the first
	other string // the version it claims; "" unless it is certainly not ours
}

// otherVersion returns the version that a provider claims, if that is a version
// as Kubernetes writes them and not ours. Everything else is no reason to refuse:
// upstream sends the request to a service whose full name has v1alpha1 in it,
// and looks at no answer, so providers in the field may answer anything.
func otherVersion(answer string) string {
	if answer == apiVersion || !regexp.MustCompile(`^v[1-9][0-9]{0,2}((alpha|beta)[1-9][0-9]{0,2})?$`).MatchString(answer) {
		return ""
	}
	return answer
}

// greet refuses a provider that says it speaks another version, before anything
// of the pod's reaches it. It asks once for each connection.
func (c *conn) greet(ctx context.Context) error {
	if other, known := c.answered(); known {
		return c.mismatch(other)
	}
	select {
	case c.hand.asking <- struct{}{}:
		defer func() { <-c.hand.asking }()
	case <-ctx.Done():
		reason, _ := contextReason(ctx)
		return &Error{Reason: reason, Provider: c.name}
	}
	other, known := c.answered()
	if !known {
		other = c.ask(ctx)
	}
	return c.mismatch(other)
}

// answered returns what is known of the present connection.
func (c *conn) answered() (other string, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hand.other, c.hand.asked > 0 && c.hand.asked == c.hand.dials
}

// ask asks, and keeps the answer unless the caller gave up meanwhile.
func (c *conn) ask(ctx context.Context) (other string) {
	c.mu.Lock()
	dial := c.hand.dials
	c.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if reply, err := c.version(short); err == nil {
		other = otherVersion(reply.GetVersion())
	}
	if ctx.Err() != nil {
		return other
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hand.asked, c.hand.other = dial, other
	return other
}

// version calls Version.
func (c *conn) version(ctx context.Context) (*v1alpha1.VersionResponse, error) {
	return v1alpha1.NewCSIDriverProviderClient(c.cc).Version(ctx, &v1alpha1.VersionRequest{Version: apiVersion},
		grpc.MaxCallRecvMsgSize(maxVersionReply))
}

// mismatch is the error for a version that is not ours; nil for "".
func (c *conn) mismatch(other string) error {
	if other == "" {
		return nil
	}
	return &Error{Reason: VersionIncompatible, Provider: c.name, detail: fmt.Sprintf("it speaks %s, this driver %s", other, apiVersion)}
}

// unimplemented reports whether a provider answered that it has no Version.
func unimplemented(err error) bool { return status.Code(err) == codes.Unimplemented }
