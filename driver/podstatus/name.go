package podstatus

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// nameHash is what of a SHA-256 ends a name that was too long: 128 bits,
	// so that nobody finds two pods of one name by trying.
	nameHash = 32
	// labelHash ends a node's name, which has less room and no author.
	labelHash = 16
)

// Name returns the name of the status object of one pod and one class:
// upstream's <pod>-<namespace>-<class>. Where that is longer than the 253 bytes
// of a DNS subdomain, upstream's mount fails; ours is cut, and ends in a hyphen
// and 32 hexadecimal digits of the SHA-256 of "<namespace>/<pod>/<class>".
func Name(pod, namespace, class string) string {
	return shortened(pod+"-"+namespace+"-"+class, namespace+"/"+pod+"/"+class, limits{validation.DNS1123SubdomainMaxLength, nameHash})
}

// NodeLabel returns the value of the label that says on which node a pod's
// volumes are: the node's name. A label has 63 bytes, a node's name up to 253;
// one that does not fit is cut, and ends in a hyphen and 16 hexadecimal digits
// of the SHA-256 of the name.
func NodeLabel(node string) string {
	return shortened(node, node, limits{validation.LabelValueMaxLength, labelHash})
}

// limits are the most bytes that a name has, and how many of them are hash
// where it was longer.
type limits struct{ most, hash int }

func shortened(full, hashed string, l limits) string {
	if len(full) <= l.most {
		return full
	}
	sum := sha256.Sum256([]byte(hashed))
	// What is left must not end in a separator: ".-" is no part of a name.
	head := strings.TrimRight(full[:l.most-l.hash-1], "-._")
	return head + "-" + hex.EncodeToString(sum[:])[:l.hash]
}
