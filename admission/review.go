package admission

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// maxObjectBytes is what the API server takes at most.
	maxObjectBytes = 3 << 20
	// maxUserBytes and maxGroups bound what a request says of its user, which only
	// warnings read.
	maxUserBytes = 253
	maxGroups    = 32
)

// review is one admission request that is of a kind that a handler knows.
type review struct {
	webhook.Request
	dryRun    bool
	requester *policies.Requester
}

// expected is a kind of request that a handler is registered for.
type expected struct {
	group, resource, subresource string
	version, kind                string
	operations                   []admissionv1.Operation
}

func (e expected) matches(r *webhook.Request) bool {
	if r.Resource.Group != e.group || r.Resource.Resource != e.resource || r.SubResource != e.subresource ||
		r.Resource.Version != e.version || r.Kind != (metav1.GroupVersionKind{Group: e.group, Version: e.version, Kind: e.kind}) {
		return false
	}
	for _, o := range e.operations {
		if r.Operation == o {
			return true
		}
	}
	return false
}

// name is the resource as metrics say it.
func (e expected) name() string {
	if e.subresource != "" {
		return e.resource + "/" + e.subresource
	}
	return e.resource
}

// handler returns one that reviews the expected requests and refuses all others.
func (g *gate) handler(decide func(context.Context, review) answer, accepts []expected) webhook.Handler {
	return webhook.HandlerFunc(func(ctx context.Context, request webhook.Request) webhook.Response {
		begin := g.c.Clock()
		ctx, cancel := context.WithTimeout(ctx, g.c.Timeout)
		defer cancel()
		v := review{Request: request, dryRun: request.DryRun != nil && *request.DryRun, requester: requesterOf(&request)}
		a := g.dispatch(ctx, v, decide, accepts)
		g.metrics.reviewed(ctx, a, v.dryRun, g.c.Clock().Sub(begin))
		g.log(ctx, v, a)
		return a.response()
	})
}

func (g *gate) dispatch(ctx context.Context, v review, decide func(context.Context, review) answer, accepts []expected) (a answer) {
	resource := "other" // a name from a request must not become a label
	// A panic refuses the request and says so; it must not end the gate of a whole
	// cluster, nor be taken for a denial.
	defer func() {
		if r := recover(); r != nil {
			// Its type alone: its text may quote the object, and the object a credential.
			g.c.Logger.ErrorContext(ctx, "a review panicked, which is a bug; please report the stack",
				slog.String(keyError, fmt.Sprintf("%T", r)), slog.String(keyStack, string(debug.Stack())))
			a = refused(verdictError, refusal{text: "internal error", hint: "see the log of the webhook", code: http.StatusServiceUnavailable})
			a.resource = resource
		}
	}()
	for _, e := range accepts {
		if !e.matches(&v.Request) {
			continue
		}
		resource = e.name()
		if n := len(v.Object.Raw); n > maxObjectBytes || len(v.OldObject.Raw) > maxObjectBytes {
			a = refused(verdictInvalid, refusal{text: "the object is larger than 3 MiB", hint: "make it smaller", code: http.StatusRequestEntityTooLarge})
		} else {
			a = decide(ctx, v)
		}
		a.resource = resource
		return a
	}
	a = refused(verdictInvalid, refusal{
		text: shortened(printable(fmt.Sprintf("this webhook does not review %s of %s", v.Operation, resourceOf(&v.Request))), maxUserBytes),
		hint: "correct the rules of the ValidatingWebhookConfiguration", code: http.StatusBadRequest,
	})
	a.resource = resource
	return a
}

// resourceOf names a resource for an error.
func resourceOf(r *webhook.Request) string {
	name := r.Resource.Resource
	if r.SubResource != "" {
		name += "/" + r.SubResource
	}
	return fmt.Sprintf("%s (%s/%s %s)", name, r.Resource.Group, r.Resource.Version, r.Kind.Kind)
}

// requesterOf is who sent the request, within bounds: a user may be in thousands
// of groups.
func requesterOf(r *webhook.Request) *policies.Requester {
	name := r.UserInfo.Username
	if name == "" || len(name) > maxUserBytes {
		return nil
	}
	who := &policies.Requester{Username: name}
	for _, group := range r.UserInfo.Groups {
		if len(who.Groups) < maxGroups && group != "" && len(group) <= maxUserBytes {
			who.Groups = append(who.Groups, group)
		}
	}
	return who
}

func (g *gate) log(ctx context.Context, v review, a answer) {
	level := slog.LevelDebug
	if a.refusal != nil {
		level = slog.LevelWarn
	}
	cause := ""
	if a.cause != nil {
		cause = a.cause.Error()
	}
	g.c.Logger.Log(ctx, level, "reviewed", slog.String(keyResource, a.resource), slog.String(keyOperation, said(string(v.Operation))),
		slog.String(keyNamespace, said(v.Namespace)), slog.String(keyName, said(v.Name)), slog.String(keyVerdict, string(a.verdict)),
		slog.String(keyDecision, joined(a.decisions)), slog.String(keyRequest, said(string(v.UID))), slog.String(keyError, cause))
}

// said is what a request says of itself as a line of the log holds it: nobody has
// checked it where the caller is no API server.
func said(s string) string { return shortened(printable(s), maxUserBytes) }
