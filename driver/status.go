package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// error_type values of the metrics: upstream's, and three of our own.
const (
	metricMount        = "FailedToMount"
	metricClass        = "SecretProviderClassNotFound"
	metricPod          = "PodNotFound"
	metricTarget       = "UnexpectedTargetPath"
	metricFile         = "FileWriteError"
	metricRotate       = "FailedToRotate"
	metricDenied       = "PolicyDenied"
	metricAudit        = "AuditUnavailable"
	metricUnconfirmed  = "IdentityUnconfirmed"
	hintRetries        = "kubelet retries by itself"
	hintPlatform       = "the platform team sees the reason in the plugin's log and readiness; " + hintRetries
	hintWrongNode      = "call the driver through kubelet, and check --kubelet-root and --nodeid"
	maxReplyBytes      = 700
	maxRulesInReply    = 3
	textDeniedByPolicy = "denied by policy: "
)

// classError is a SecretProviderClass that could not be read.
type classError struct {
	namespace, name string
	err             error
}

// Error names the class.
func (e *classError) Error() string {
	return fmt.Sprintf("read secretproviderclass %s/%s: %v", e.namespace, e.name, e.err)
}

// Unwrap returns the cause.
func (e *classError) Unwrap() error { return e.err }

// outcome is what an error looks like from outside. Kubelet copies text and
// hint into an event of the pod, so they are our own words.
type outcome struct {
	code     codes.Code
	reason   audit.Reason
	metric   string
	text     string
	hint     string
	decision string
}

// classify is the one table from errors to replies, events and metrics. What
// it does not know is Unavailable: kubelet retries, and nothing is final.
func classify(err error) outcome {
	for _, known := range []func(error) (outcome, bool){
		givenUpOutcome, requestOutcome, clusterOutcome, policyOutcome, providerOutcome, nodeOutcome, targetOutcome,
	} {
		if o, ok := known(err); ok {
			return o
		}
	}
	return outcome{codes.Unavailable, audit.ReasonInternal, metricMount, "internal error", "see the log of the node plugin on this node", ""}
}

// givenUpOutcome knows calls that ended before their work: mostly publishes whose
// unpublish came in between. It comes first, since whatever was interrupted (the
// log, a look at the cluster) fails in its own words, and is not to blame.
func givenUpOutcome(err error) (outcome, bool) {
	if !errors.Is(err, context.Canceled) {
		return outcome{}, false
	}
	return outcome{codes.Aborted, audit.ReasonAborted, metricMount, "the call was given up", hintRetries, ""}, true
}

// requestOutcome knows what is wrong with a request, a pod or a class.
func requestOutcome(err error) (outcome, bool) {
	if e, ok := errors.AsType[*requestError](err); ok {
		metric := metricMount
		if e.field == fieldTarget {
			metric = metricTarget
		}
		return outcome{codes.InvalidArgument, audit.ReasonInvalidRequest, metric, e.Error(), e.remedy, ""}, true
	}
	if e, ok := errors.AsType[*kube.FieldError](err); ok {
		return outcome{codes.InvalidArgument, audit.ReasonInvalidClass, metricMount, e.Error(), e.Remedy, ""}, true
	}
	if e, ok := errors.AsType[*policies.InputError](err); ok {
		return outcome{codes.InvalidArgument, audit.ReasonInvalidInput, metricMount, e.Error(), e.Remedy, ""}, true
	}
	return outcome{}, false
}

// clusterOutcome knows what the cluster did not confirm.
func clusterOutcome(err error) (outcome, bool) {
	missing := errors.Is(err, kube.ErrNotFound)
	if e, ok := errors.AsType[*classError](err); ok {
		if missing {
			// The upstream driver's words: tests and runbooks search for them.
			text := fmt.Sprintf("failed to get secretproviderclass %s/%s, error: secretproviderclass %q not found", e.namespace, e.name, e.name)
			return outcome{codes.NotFound, audit.ReasonClassNotFound, metricClass, text, "create the SecretProviderClass in the pod's namespace", ""}, true
		}
		return outcome{codes.Unavailable, audit.ReasonFactsUnavailable, metricClass, "the SecretProviderClass cannot be read", hintPlatform, ""}, true
	}
	if missing {
		return outcome{codes.NotFound, audit.ReasonPodNotFound, metricPod, "the pod, its namespace or its service account is not in the cluster", hintRetries, ""}, true
	}
	if e, ok := errors.AsType[*identity.UnconfirmedError](err); ok {
		return outcome{codes.PermissionDenied, audit.ReasonIdentityUnconfirmed, metricUnconfirmed, e.Error(), cmp.Or(e.Remedy, hintWrongNode), ""}, true
	}
	if e, ok := errors.AsType[*identity.DriverObjectError](err); ok {
		return outcome{codes.Unavailable, audit.ReasonDriverObjectUnfit, metricUnconfirmed, e.Error(), e.Remedy + "; the platform team owns it", ""}, true
	}
	_, unavailable := errors.AsType[*identity.UnavailableError](err)
	_, incomplete := errors.AsType[*kube.MissingFactError](err)
	if unavailable || incomplete {
		return outcome{codes.Unavailable, audit.ReasonFactsUnavailable, metricPod, "facts about the pod cannot be read", hintPlatform, ""}, true
	}
	return outcome{}, false
}

// policyOutcome knows refusals, the lack of a verdict, and a log that cannot be
// written.
func policyOutcome(err error) (outcome, bool) {
	if e, ok := errors.AsType[*revokedError](err); ok {
		return e.outcome(), true
	}
	if e, ok := errors.AsType[*policies.DeniedError](err); ok {
		return outcome{codes.PermissionDenied, audit.ReasonPolicyDenied, metricDenied, textDeniedByPolicy + ruleList(e.RuleIDs()), remedyOf(e.Findings), e.DecisionID}, true
	}
	if e, ok := errors.AsType[*policies.UndecidedError](err); ok {
		return outcome{codes.Unavailable, audit.Reason(e.Reason), metricMount, e.Error(), hintPlatform, e.DecisionID}, true
	}
	switch {
	case errors.Is(err, errBundleExpired):
		return outcome{codes.Unavailable, audit.ReasonBundleExpired, metricMount, err.Error(), "publish a bundle with a later not_after", ""}, true
	case errors.Is(err, audit.ErrUnavailable):
		return outcome{codes.Unavailable, audit.ReasonAuditUnavailable, metricAudit, "the decision cannot be recorded in the audit log", "nothing is granted without a record; " + hintPlatform, ""}, true
	}
	return outcome{}, false
}

// providerOutcome knows what went wrong between here and the files.
func providerOutcome(err error) (outcome, bool) {
	e, ok := errors.AsType[*provider.Error](err)
	if !ok {
		return outcome{}, false
	}
	return outcome{e.Code(), providerReason(e.Reason), e.MetricType(), e.Error(), e.Hint(), ""}, true
}

// providerReason is the event's word for a failed delivery.
func providerReason(r provider.Reason) audit.Reason {
	switch r {
	case provider.NotGranted, provider.ParametersChanged:
		return audit.ReasonParametersChanged
	case provider.SocketUntrusted:
		return audit.ReasonProviderUntrusted
	case provider.ProviderNotFound, provider.ProviderBusy, provider.ProviderUnavailable, provider.ProviderThrottled:
		return audit.ReasonProviderUnavailable
	case provider.ProviderTimeout:
		return audit.ReasonDeadlineExceeded
	case provider.ProviderDenied:
		return audit.ReasonProviderDenied
	case provider.Canceled:
		return audit.ReasonAborted
	case provider.ReplyInvalid, provider.ReplyTooLarge, provider.ProviderWroteItself, provider.VersionIncompatible:
		return audit.ReasonProviderInvalid
	case provider.BeyondGrant:
		return audit.ReasonBeyondGrant
	case provider.VolumeFull:
		return audit.ReasonBudgetExceeded
	case provider.WriteFailed:
		return audit.ReasonVolumeFailed
	case provider.ProviderFailed, provider.ProviderError:
		return audit.ReasonProviderError
	default:
		return audit.ReasonProviderError
	}
}

// nodeOutcome knows what goes wrong on the node itself.
func nodeOutcome(err error) (outcome, bool) {
	if e, ok := errors.AsType[*budgetError](err); ok {
		return outcome{codes.ResourceExhausted, audit.ReasonBudgetExceeded, metricMount, e.Error(), "use fewer or smaller volumes, or raise --max-volume-bytes and --max-node-bytes, and the plugin's memory limit with them", ""}, true
	}
	if _, ok := errors.AsType[*notEmptyError](err); ok {
		return outcome{codes.Unavailable, audit.ReasonScrubIncomplete, metricMount, "the volume could not be emptied", "restart the pod, and deny containers with CAP_SYS_ADMIN", ""}, true
	}
	_, limit := errors.AsType[*hardening.LimitError](err)
	_, path := errors.AsType[*hardening.PathError](err)
	switch {
	case errors.Is(err, errSelfWritten):
		return outcome{codes.Unavailable, audit.ReasonProviderWroteTarget, metricFile, errSelfWritten.Error(), "make the provider return files (AWS: --driver-writes-secrets=true); what it wrote was scrubbed", ""}, true
	case errors.Is(err, errStuck):
		return outcome{codes.Unavailable, audit.ReasonVolumeFailed, metricRotate, err.Error(), "restart the pod, and deny containers with CAP_SYS_ADMIN", ""}, true
	case errors.Is(err, errOccupied):
		return outcome{codes.Unavailable, audit.ReasonVolumeFailed, metricTarget, err.Error(), "delete the pod: what is in the directory is removed with it; a provider may have written it itself (AWS: --driver-writes-secrets=true)", ""}, true
	case errors.Is(err, errForeignMount):
		return outcome{codes.Unavailable, audit.ReasonForeignMountKept, metricTarget, err.Error(), "delete the pod, or unmount by hand what is mounted at its volume", ""}, true
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{codes.DeadlineExceeded, audit.ReasonDeadlineExceeded, metricMount, "the deadline passed", hintRetries, ""}, true
	case limit || path:
		return outcome{codes.Unavailable, audit.ReasonFileRefused, metricFile, "the files cannot be written as they are", "see the log of the node plugin on this node", ""}, true
	}
	return outcome{}, false
}

// statusOf returns the reply for an error: one line of at most 700 bytes of
// printable ASCII. Equal causes have equal texts, since kubelet counts them as
// one event.
func statusOf(err error) error {
	o := classify(err)
	return status.Error(o.code, line(o.text, o.hint, o.decision))
}

// line puts a reply together; what does not fit is cut off the hint.
func line(text, hint, decision string) string {
	tail := ""
	if decision != "" {
		tail = "; decision " + printable(decision)
	}
	head := printable(text)
	if hint != "" {
		head += "; hint: " + printable(hint)
	}
	const ellipsis = "..."
	if room := maxReplyBytes - len(tail); len(head) > room {
		head = head[:room-len(ellipsis)] + ellipsis
	}
	return head + tail
}

// printable replaces what is not printable ASCII: kubelet passes escape
// sequences on to terminals.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func ruleList(ids []string) string {
	if len(ids) <= maxRulesInReply {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:maxRulesInReply], ", "), len(ids)-maxRulesInReply)
}

// remedyOf is the remedy of the first finding, unless one is critical: a
// credential in a class is not mended by the grant that is missing as well.
func remedyOf(findings []policies.Finding) string {
	remedy := ""
	for _, f := range findings {
		if f.Severity == policies.SeverityCritical && f.Remediation != "" {
			return f.Remediation
		}
		if remedy == "" {
			remedy = f.Remediation
		}
	}
	if remedy == "" {
		return "ask the security team about these rules"
	}
	return remedy
}
