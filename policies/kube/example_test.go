package kube_test

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

func ExampleMerge() {
	effective, overrides, err := kube.Merge(class(), map[string]string{
		"secretProviderClass": "db",
		"objects":             "- objectName: payments/admin-password",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("provider:", effective.Provider())
	fmt.Println("overridden:", overrides)
	// Output:
	// provider: local
	// overridden: [objects]
}

func ExampleBuildInput() {
	in, _, err := kube.BuildInput(facts())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range in.Requests {
		fmt.Println(r.Secret, "->", r.File)
	}
	// Output:
	// local://node/payments/db-password -> password
}

func ExampleFieldError() {
	_, _, err := kube.BuildInput(facts(csi(func(c *corev1.CSIVolumeSource) { c.ReadOnly = nil })))
	if field, ok := errors.AsType[*kube.FieldError](err); ok {
		fmt.Println(field)
		fmt.Println("hint:", field.Remedy)
	}
	// Output:
	// spec.volumes["secrets"].csi.readOnly is not true
	// hint: set readOnly: true
}
