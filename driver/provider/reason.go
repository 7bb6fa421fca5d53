package provider

import "google.golang.org/grpc/codes"

// Reason says in one word why a delivery failed. It is a closed list, so that
// events and metrics can carry it.
type Reason string

// Why a delivery fails.
const (
	NotGranted          Reason = "NotGranted"          // the grant names no objects, or the call is incomplete
	ParametersChanged   Reason = "ParametersChanged"   // not the parameters that were decided on
	ProviderNotFound    Reason = "ProviderNotFound"    // no socket of that name
	SocketUntrusted     Reason = "SocketUntrusted"     // the socket or its listener belongs to somebody else
	ProviderBusy        Reason = "ProviderBusy"        // every slot of this provider is taken
	ProviderUnavailable Reason = "ProviderUnavailable" // nobody answers on the socket
	ProviderTimeout     Reason = "ProviderTimeout"     // no answer in time
	ProviderDenied      Reason = "ProviderDenied"      // the backend refused the identity
	ProviderThrottled   Reason = "ProviderThrottled"   // the backend asks to slow down
	ProviderFailed      Reason = "ProviderFailed"      // any other gRPC status
	ProviderError       Reason = "ProviderError"       // an error code in the reply
	ProviderWroteItself Reason = "ProviderWroteItself" // no files: the provider writes into target_path
	VersionIncompatible Reason = "VersionIncompatible" // the provider speaks another API version
	Canceled            Reason = "Canceled"            // the caller gave up
	ReplyInvalid        Reason = "ReplyInvalid"        // the reply breaks the protocol or a file rule
	ReplyTooLarge       Reason = "ReplyTooLarge"       // larger than --max-call-recv-msg-size
	BeyondGrant         Reason = "BeyondGrant"         // files other than the granted ones
	VolumeFull          Reason = "VolumeFull"          // the files do not fit
	WriteFailed         Reason = "WriteFailed"         // the volume could not be written
)

// The error_type values of the upstream driver, whose dashboards must go on
// working (sigs.k8s.io/secrets-store-csi-driver v1.6.0, pkg/errors).
const (
	typeLookup       = "FailedToLookupProviderGRPCClient"
	typeGRPC         = "GRPCProviderError"
	typeProvider     = "ProviderError"
	typeIncompatible = "IncompatibleProviderVersion"
	typeFileWrite    = "FileWriteError"
	typeDenied       = "PolicyDenied" // ours
)

// meaning is what a reason looks like from outside.
type meaning struct {
	text       string
	hint       string
	code       codes.Code
	metricType string
}

// meaning of r; a reason that is not on the list reads like NotGranted, the
// most cautious one.
func (r Reason) meaning() meaning {
	if m, ok := callMeaning(r); ok {
		return m
	}
	if m, ok := replyMeaning(r); ok {
		return m
	}
	return meaning{"nothing was granted", "mount again: a decision must come first", codes.PermissionDenied, typeDenied}
}

// callMeaning holds what can go wrong up to the provider's answer. All codes
// but that of NotGranted are ones that kubelet does not treat as final.
func callMeaning(r Reason) (meaning, bool) {
	switch r {
	case ParametersChanged:
		return meaning{"the parameters are not those that were decided on", "mount again: the class changed meanwhile", codes.Unavailable, typeDenied}, true
	case ProviderNotFound:
		return meaning{"no socket of this provider", "install the provider on this node, or correct spec.provider of the SecretProviderClass", codes.Unavailable, typeLookup}, true
	case SocketUntrusted:
		return meaning{"the socket is not trusted", "run the provider as root or name its uid with --provider-uid; the socket must be no link and have mode 0755 at most", codes.Unavailable, typeLookup}, true
	case ProviderBusy:
		return meaning{"too many calls to this provider are in progress", "look for a provider or backend that hangs", codes.Unavailable, typeGRPC}, true
	case ProviderUnavailable:
		return meaning{"the provider does not answer on its socket", "check that the provider's pod on this node is running", codes.Unavailable, typeGRPC}, true
	case ProviderTimeout:
		return meaning{"no answer before the deadline", "look for a slow backend in the provider's log", codes.DeadlineExceeded, typeGRPC}, true
	case ProviderDenied:
		return meaning{"the backend refused access", "check what the service account may read at the backend; the provider's log has the details", codes.Unavailable, typeGRPC}, true
	case ProviderThrottled:
		return meaning{"the backend is throttling", "raise the backend's quota or --rotation-poll-interval", codes.Unavailable, typeGRPC}, true
	case ProviderFailed:
		return meaning{"the provider returned an error", "see the provider's log on this node", codes.Unavailable, typeGRPC}, true
	case ProviderError:
		return meaning{"the provider returned an error code", "see the provider's log on this node", codes.Unavailable, typeProvider}, true
	case VersionIncompatible:
		return meaning{"the provider speaks another API version", "install a provider that speaks v1alpha1", codes.Unavailable, typeIncompatible}, true
	case Canceled:
		return meaning{"the call was given up", "none needed: kubelet calls again", codes.Aborted, typeGRPC}, true
	default:
		return meaning{}, false
	}
}

// replyMeaning holds what can be wrong with an answer or with writing it.
func replyMeaning(r Reason) (meaning, bool) {
	switch r {
	case ProviderWroteItself:
		return meaning{"the reply holds no files", "make the provider return files (AWS: --driver-writes-secrets=true); it must not write to target_path itself", codes.Unavailable, typeFileWrite}, true
	case ReplyInvalid:
		return meaning{"the reply is not acceptable", "report it to the provider's authors", codes.Unavailable, typeGRPC}, true
	case ReplyTooLarge:
		return meaning{"the reply is too large", "request fewer or smaller objects, or raise --max-call-recv-msg-size", codes.ResourceExhausted, typeGRPC}, true
	case BeyondGrant:
		return meaning{"the files are not the granted ones", "compare the objects of the class with what the provider returns for them", codes.Unavailable, typeGRPC}, true
	case VolumeFull:
		return meaning{"the files do not fit into the volume", "request fewer or smaller objects, or raise --max-volume-bytes", codes.ResourceExhausted, typeFileWrite}, true
	case WriteFailed:
		return meaning{"the volume could not be written", "see the node plugin's log and the node's memory", codes.Unavailable, typeFileWrite}, true
	default:
		return meaning{}, false
	}
}
