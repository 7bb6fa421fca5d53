package identity

import (
	"encoding/json"
	"strconv"
)

// Claims of a bound service account token (KEP-1205, KEP-4193).
const (
	claimKubernetes = "kubernetes.io"
	claimPod        = "pod"
	claimAccount    = "serviceaccount"
	claimNode       = "node"
)

// claims are what a token says, as far as it matters here.
type claims struct {
	issuer, subject            string
	audiences                  []string
	expires, notBefore, issued int64 // Unix seconds
	namespace                  string
	pod, account, node         reference
}

// reference names an object; the zero value names none.
type reference struct{ name, uid string }

// parseClaims reads a payload, which must have every registered claim that
// Kubernetes writes. What kubernetes.io lacks is left empty.
func parseClaims(part []byte) (claims, bool) {
	text, ok := decodePart(part)
	defer clear(text)
	if !ok {
		return claims{}, false
	}
	object, err := decodeObject(text)
	if err != nil {
		return claims{}, false
	}
	var t claims
	good := []bool{
		take(object, "iss", &t.issuer), take(object, "sub", &t.subject), takeAudiences(object["aud"], &t.audiences),
		takeTime(object["exp"], &t.expires), takeTime(object["nbf"], &t.notBefore), takeTime(object["iat"], &t.issued),
		takeBinding(object[claimKubernetes], &t),
	}
	for _, g := range good {
		ok = ok && g
	}
	return t, ok
}

func take(object map[string]any, name string, to *string) (ok bool) {
	*to, ok = object[name].(string)
	return ok
}

// takeAudiences reads one audience or a list (RFC 7519 section 4.1.3).
func takeAudiences(value any, to *[]string) bool {
	if one, ok := value.(string); ok {
		*to = []string{one}
		return true
	}
	list, ok := value.([]any)
	for _, entry := range list {
		audience, isText := entry.(string)
		ok = ok && isText
		*to = append(*to, audience)
	}
	return ok
}

// takeTime reads whole seconds. RFC 7519 allows fractions, Kubernetes writes none.
func takeTime(value any, to *int64) bool {
	number, ok := value.(json.Number)
	if !ok {
		return false
	}
	seconds, err := strconv.ParseInt(number.String(), 10, 64)
	*to = seconds
	return err == nil && seconds >= 0
}

func takeBinding(value any, t *claims) bool {
	if value == nil {
		return true
	}
	object, ok := value.(map[string]any)
	if !ok {
		return false
	}
	if _, set := object["namespace"]; set && !take(object, "namespace", &t.namespace) {
		return false
	}
	return takeReference(object[claimPod], &t.pod) && takeReference(object[claimAccount], &t.account) && takeReference(object[claimNode], &t.node)
}

// takeReference takes one without a UID as well: that is how the API server
// names a node whose object is not there. A pod or an account is then not named.
func takeReference(value any, to *reference) bool {
	if value == nil {
		return true
	}
	object, ok := value.(map[string]any)
	if _, set := object["uid"]; set && !take(object, "uid", &to.uid) {
		return false
	}
	return ok && take(object, "name", &to.name)
}

// compare holds a token that the cluster signed to the pod. What the token
// says must be true of this pod, or the request is refused: kubelet hands
// nobody another pod's token. What it does not say leaves it unverified, but for
// the node, which API servers before 1.30 do not write.
func (v *Verifier) compare(t claims, c Confirmed) (unverified, error) {
	pod, account := c.Pod, c.ServiceAccount
	for _, claim := range []struct {
		field, said, is string
	}{
		{"namespace", t.namespace, pod.Namespace},
		{"pod", t.pod.name, pod.Name},
		{"pod UID", t.pod.uid, string(pod.UID)},
		{"service account", t.account.name, account.Name},
		{"service account UID", t.account.uid, string(account.UID)},
		{"node", t.node.name, v.c.Node},
		{"subject", t.subject, "system:serviceaccount:" + pod.Namespace + ":" + account.Name},
	} {
		if claim.said != "" && claim.said != claim.is {
			return "", &UnconfirmedError{Field: claim.field, Problem: "in a service account token of the request is not the pod's"}
		}
	}
	if t.namespace == "" || t.pod.name == "" || t.pod.uid == "" || t.account.name == "" || t.account.uid == "" || t.subject == "" {
		return notBound, nil
	}
	return "", nil
}
