package kube

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// secretTypePattern accepts no type as well: upstream then fails the copy only.
var secretTypePattern = regexp.MustCompile(`^[-A-Za-z0-9_./]{0,253}$`)

// addSync notes on each request the Secret objects that the class wants its
// file copied to. As upstream does, an object is named by its file. When it is
// not known which files there are, every copy is noted on the one request.
func addSync(requests []policies.Request, objects []*spcv1.SecretObject) error {
	for i, o := range objects {
		if o == nil {
			continue
		}
		field := fmt.Sprintf("spec.secretObjects[%d]", i)
		if err := checkSecretObject(o, field); err != nil {
			return err
		}
		for _, d := range o.Data {
			if d == nil {
				continue
			}
			key := strings.TrimSpace(d.Key)
			if len(validation.IsConfigMapKey(key)) > 0 {
				return &FieldError{field + ".data", "has a key that no Secret can have", "use letters, digits, -, _ and ."}
			}
			addTarget(requests, strings.TrimSpace(d.ObjectName), policies.Sync{Name: o.SecretName, Type: o.Type, Key: key})
		}
	}
	return nil
}

func addTarget(requests []policies.Request, file string, target policies.Sync) {
	for i := range requests {
		if r := &requests[i]; r.File == file || r.ParseError != "" {
			r.Sync = append(r.Sync, target)
		}
	}
}

// checkSecretObject bounds what reaches policy and events.
func checkSecretObject(o *spcv1.SecretObject, field string) error {
	if len(validation.IsDNS1123Subdomain(o.SecretName)) > 0 {
		return &FieldError{field + ".secretName", "is not a name of a Secret", "use lower case letters, digits, - and ."}
	}
	if !secretTypePattern.MatchString(o.Type) {
		return &FieldError{field + ".type", "is not a type of Secret", "use Opaque or kubernetes.io/tls, for example"}
	}
	return nil
}
