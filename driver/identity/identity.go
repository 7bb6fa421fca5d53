package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// Tokens are the service account tokens that came with a request, by audience.
type Tokens interface {
	// Audiences returns the audiences, sorted. The audience "" is the API
	// server's own.
	Audiences() []string
	// Token returns the token for an audience, and whether there is one.
	Token(audience string) (*hardening.Plaintext, bool)
}

// Claim is what kubelet says: unconfirmed.
type Claim struct {
	Namespace, Pod, ServiceAccount string            // from the volume context
	PodUID, Volume                 string            // from the target path
	ContextUID                     string            // pod UID in the volume context
	Attributes                     map[string]string // the volume context; the tokens may be left out
	// Mounted says that the volume is at its target already: the pod may be
	// on its way out and still needs it kept fresh.
	Mounted bool
	// WasVerified says that a token of this volume was verified before. One that
	// cannot be now, for want of its key, for its issuer or for its time, then
	// says more about keys and clocks than about the pod: it is an error.
	WasVerified bool
	// Tokens came among the secrets of the request, which only kubelet can
	// write there; nil for none.
	Tokens Tokens
	// ContextTokens came in the volume context, where an author of pods may
	// have written them; nil if the context has no such key.
	ContextTokens Tokens
}

// Confirmed holds the objects that the cluster confirms.
type Confirmed struct {
	Pod            *corev1.Pod
	Namespace      *corev1.Namespace
	ServiceAccount *corev1.ServiceAccount
	// Tokens says of each audience whether its token was verified, sorted.
	Tokens []policies.Token
	// TokenVerified says that at least one token was, and none names anybody else.
	TokenVerified bool
	// Unverified says why, for the tokens that were not.
	Unverified []UnverifiedToken
	// ContextTokens says that kubelet's tokens are Claim.ContextTokens: the
	// CSIDriver object has it put them there.
	ContextTokens bool
	// Doubtful says that a token was not verified for a reason that keys and
	// clocks may have as well as the pod: the next request may find it verified.
	Doubtful bool
	// Driver is the resourceVersion of the CSIDriver object, which says what
	// tokens kubelet gets.
	Driver string
}

// Cluster reads the objects that identify a pod. A missing object is an error
// that is kube.ErrNotFound.
type Cluster interface {
	// Pod returns the pod of this name; uid is the one that is expected, so
	// that a copy of an earlier pod of the same name is not the last word.
	Pod(ctx context.Context, namespace, name, uid string) (*corev1.Pod, error)
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	// CSIDriver returns the object of this driver.
	CSIDriver(ctx context.Context) (*storagev1.CSIDriver, error)
}

// UnconfirmedError says which part of a claim the cluster contradicts.
type UnconfirmedError struct {
	Field   string // what was compared
	Problem string // our words, without the value
	Remedy  string // "" where only a wrong caller explains it
}

// Error names the field.
func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("identity not confirmed: %s %s", e.Field, e.Problem)
}

// UnavailableError says that a fact could not be read. It is not evidence of
// anything.
type UnavailableError struct {
	Object string // pod, namespace, service account, CSIDriver object or token keys
	err    error
}

// Error names the object.
func (e *UnavailableError) Error() string { return fmt.Sprintf("read %s: %v", e.Object, e.err) }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.err }

// Config of a Verifier. Every field is required but where it says otherwise.
type Config struct {
	Cluster    Cluster
	Node       string           // name of this node
	DriverName string           // CSI driver name of our volumes
	Keys       *Keys            // absent: no token is verified
	Clock      func() time.Time // absent: time.Now
}

// Verifier confirms claims.
type Verifier struct{ c Config }

// New returns a Verifier, or an error that names the missing field.
func New(c Config) (*Verifier, error) {
	switch {
	case c.Cluster == nil:
		return nil, errors.New("configure identity: Cluster is missing")
	case c.Node == "":
		return nil, errors.New("configure identity: Node is missing")
	case c.DriverName == "":
		return nil, errors.New("configure identity: DriverName is missing")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Verifier{c: c}, nil
}

// Verify confirms a claim. Errors are *UnconfirmedError, *UnavailableError,
// *DriverObjectError, *kube.SpoofError, *kube.FieldError, or wrap
// kube.ErrNotFound.
func (v *Verifier) Verify(ctx context.Context, c Claim) (Confirmed, error) {
	if c.ContextUID != c.PodUID {
		return Confirmed{}, &UnconfirmedError{Field: "pod UID", Problem: "in the volume context is not the one in the target path"}
	}
	object, err := v.driverObject(ctx)
	if err != nil {
		return Confirmed{}, err
	}
	tokens, fromContext, err := genuineTokens(object, c)
	if err != nil {
		return Confirmed{}, err
	}
	confirmed, err := v.objects(ctx, c)
	if err != nil {
		return Confirmed{}, err
	}
	confirmed.ContextTokens, confirmed.Driver = fromContext, object.ResourceVersion
	return v.checkTokens(ctx, confirmed, tokens, c.WasVerified)
}

// objects reads the pod and what belongs to it, and compares.
func (v *Verifier) objects(ctx context.Context, c Claim) (Confirmed, error) {
	pod, err := v.c.Cluster.Pod(ctx, c.Namespace, c.Pod, c.PodUID)
	if err != nil {
		return Confirmed{}, unavailable("pod", err)
	}
	if err := v.checkPod(pod, c); err != nil {
		return Confirmed{}, err
	}
	ns, err := v.c.Cluster.Namespace(ctx, c.Namespace)
	if err != nil {
		return Confirmed{}, unavailable("namespace", err)
	}
	sa, err := v.c.Cluster.ServiceAccount(ctx, c.Namespace, c.ServiceAccount)
	if err != nil {
		return Confirmed{}, unavailable("service account", err)
	}
	return Confirmed{Pod: pod, Namespace: ns, ServiceAccount: sa}, nil
}

func unavailable(object string, err error) error {
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("%s: %w", object, err)
	}
	return &UnavailableError{Object: object, err: err}
}
