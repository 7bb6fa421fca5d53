package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

const (
	spcGroup     = "secrets-store.csi.x-k8s.io"
	storageGroup = "storage.k8s.io"
	groupReviews = "/apis/authorization.k8s.io/v1/"
	groupRBAC    = "/apis/rbac.authorization.k8s.io/v1/"
	everything   = "*"
)

// wanted are the rights that the plugin uses, and those that it must not have.
func wanted(driver string) []doctor.Right {
	var all []doctor.Right
	add := func(needed bool, r doctor.Right, verbs ...string) {
		for _, v := range verbs {
			r.Verb, r.Needed = v, needed
			all = append(all, r)
		}
	}
	add(true, doctor.Right{Resource: "pods"}, "get", "list", "watch")
	add(true, doctor.Right{Resource: "namespaces"}, "get", "list", "watch")
	add(true, doctor.Right{Resource: "serviceaccounts"}, "get")
	add(true, doctor.Right{Resource: "events"}, "create", "patch")
	add(true, doctor.Right{Group: spcGroup, Resource: "secretproviderclasses"}, "get")
	add(true, doctor.Right{Group: spcGroup, Resource: "secretproviderclasspodstatuses"}, "create", "delete", "get", "list", "update")
	add(true, doctor.Right{Group: storageGroup, Resource: "csidrivers", Name: driver}, "get", "list", "watch")
	add(true, doctor.Right{Path: "/openid/v1/jwks"}, "get")
	add(true, doctor.Right{Path: "/.well-known/openid-configuration"}, "get")
	add(false, doctor.Right{Resource: "secrets"}, "get", "list", "watch", "create", "update", "delete")
	add(false, doctor.Right{Resource: "configmaps"}, "get", "list", "update")
	add(false, doctor.Right{Resource: "pods"}, "create", "update", "delete")
	add(false, doctor.Right{Resource: "pods/exec"}, "create")
	add(false, doctor.Right{Resource: "serviceaccounts/token"}, "create")
	add(false, doctor.Right{Resource: "nodes"}, "update", "patch")
	add(false, doctor.Right{Group: spcGroup, Resource: "secretproviderclasses"}, "create", "update", "delete")
	add(false, doctor.Right{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, "create")
	add(false, doctor.Right{Resource: "users"}, "impersonate")
	return all
}

// rights asks for each right: by access reviews of the account, by the account's
// own if this is that account, or by reading its roles.
func rights(ctx context.Context, c *client, config Config) doctor.Asked[[]doctor.Right] {
	all := wanted(config.Driver)
	review := func(r *doctor.Right) (bool, error) { return c.review(ctx, r, config) }
	_, err := review(&all[0])
	if errors.Is(err, doctor.ErrForbidden) && c.is(ctx, config.user()) {
		review = func(r *doctor.Right) (bool, error) { return c.selfReview(ctx, r) }
	} else if errors.Is(err, doctor.ErrForbidden) {
		rules, err := c.rules(ctx, config)
		if err != nil {
			return doctor.Asked[[]doctor.Right]{Err: err}
		}
		review = func(r *doctor.Right) (bool, error) { return allowed(rules, r), nil }
	}
	for i := range all {
		if all[i].Allowed, err = review(&all[i]); err != nil {
			return doctor.Asked[[]doctor.Right]{Err: err}
		}
	}
	return doctor.Asked[[]doctor.Right]{Value: all}
}

// user is the name that the account has for the API server.
func (c Config) user() string { return "system:serviceaccount:" + c.Namespace + ":" + c.Account }

// groups are those of every service account.
func (c Config) groups() []string {
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + c.Namespace, "system:authenticated"}
}

func attributes(r *doctor.Right) (*authorizationv1.ResourceAttributes, *authorizationv1.NonResourceAttributes) {
	if r.Path != "" {
		return nil, &authorizationv1.NonResourceAttributes{Path: r.Path, Verb: r.Verb}
	}
	resource, sub, _ := strings.Cut(r.Resource, "/")
	return &authorizationv1.ResourceAttributes{Verb: r.Verb, Group: r.Group, Resource: resource, Subresource: sub, Name: r.Name}, nil
}

func (c *client) review(ctx context.Context, r *doctor.Right, config Config) (bool, error) {
	resource, other := attributes(r)
	var out authorizationv1.SubjectAccessReview
	err := c.do(ctx, question{path: groupReviews + "subjectaccessreviews", review: &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: config.user(), Groups: config.groups(), ResourceAttributes: resource, NonResourceAttributes: other},
	}}, &out)
	return out.Status.Allowed, err
}

func (c *client) selfReview(ctx context.Context, r *doctor.Right) (bool, error) {
	resource, other := attributes(r)
	var out authorizationv1.SelfSubjectAccessReview
	err := c.do(ctx, question{path: groupReviews + "selfsubjectaccessreviews", review: &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: resource, NonResourceAttributes: other},
	}}, &out)
	return out.Status.Allowed, err
}

// is reports whether this is who asks.
func (c *client) is(ctx context.Context, user string) bool {
	var out authenticationv1.SelfSubjectReview
	err := c.do(ctx, question{path: "/apis/authentication.k8s.io/v1/selfsubjectreviews", review: &authenticationv1.SelfSubjectReview{}}, &out)
	return err == nil && out.Status.UserInfo.Username == user
}

// rules reads the rules of all cluster roles that are bound to the account.
func (c *client) rules(ctx context.Context, config Config) ([]rbacv1.PolicyRule, error) {
	bindings := list(ctx, c, question{path: groupRBAC + "clusterrolebindings"}, whole[rbacv1.ClusterRoleBinding])
	roles := list(ctx, c, question{path: groupRBAC + "clusterroles"}, whole[rbacv1.ClusterRole])
	if err := cmp.Or(bindings.Err, roles.Err); err != nil {
		return nil, err
	}
	var rules []rbacv1.PolicyRule
	for _, b := range bindings.Value {
		if !slices.ContainsFunc(b.Subjects, config.subject) {
			continue
		}
		for _, r := range roles.Value {
			if r.Name == b.RoleRef.Name {
				rules = append(rules, r.Rules...)
			}
		}
	}
	return rules, nil
}

func (c Config) subject(s rbacv1.Subject) bool {
	return s.Kind == rbacv1.ServiceAccountKind && s.Name == c.Account && s.Namespace == c.Namespace ||
		s.Kind == rbacv1.UserKind && s.Name == c.user() ||
		s.Kind == rbacv1.GroupKind && slices.Contains(c.groups(), s.Name)
}

// allowed is what RBAC decides by these rules.
func allowed(rules []rbacv1.PolicyRule, r *doctor.Right) bool {
	has := func(list []string, word string) bool {
		return slices.Contains(list, word) || slices.Contains(list, everything)
	}
	for _, rule := range rules {
		if !has(rule.Verbs, r.Verb) {
			continue
		}
		if r.Path != "" {
			if slices.ContainsFunc(rule.NonResourceURLs, func(p string) bool {
				prefix, wild := strings.CutSuffix(p, everything)
				return p == r.Path || wild && strings.HasPrefix(r.Path, prefix)
			}) {
				return true
			}
			continue
		}
		if has(rule.APIGroups, r.Group) && has(rule.Resources, r.Resource) && (len(rule.ResourceNames) == 0 || r.Name != "" && slices.Contains(rule.ResourceNames, r.Name)) {
			return true
		}
	}
	return false
}
