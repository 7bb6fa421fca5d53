package policies_test

import (
	"context"
	"fmt"
	"testing/fstest"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// exampleEngine compiles a bundle with one grant, for payments/api.
func exampleEngine() *policies.Engine {
	b, err := bundle.LoadFS(fstest.MapFS{
		".manifest":                   {Data: []byte(`{"metadata": {"contract": "portcullis/v1", "serial": 1}}`)},
		"portcullis/grants/team.yaml": {Data: []byte(policiestest.Grants)},
	})
	if err != nil {
		fmt.Println(err)
		return nil
	}
	e, err := policies.Compile(context.Background(), b, policies.Options{Budget: time.Minute})
	if err != nil {
		fmt.Println(err)
		return nil
	}
	return e
}

func ExampleEngine_Decide() {
	decision := exampleEngine().Decide(context.Background(), policiestest.Input())
	fmt.Println(decision.Verdict(), decision.Grants)
	// Output: allow [G-1]
}

func ExampleEngine_Decide_denied() {
	decision := exampleEngine().Decide(context.Background(), policiestest.Input(func(in *policies.Input) {
		in.Subject.ServiceAccount = "web"
	}))
	for _, f := range decision.Deny {
		fmt.Println(f.ID, f.Message)
		fmt.Println("remedy:", f.Remediation)
	}
	// Output:
	// PR-001 no live grant lets service account web in namespace payments have local://node/payments/db-password
	// remedy: ask the owner of local://node/payments/db-password for a grant to service account web in namespace payments
}

func ExampleEngine_Decide_withoutBundle() {
	var engine *policies.Engine
	decision := engine.Decide(context.Background(), policiestest.Input())
	_, err := decision.Grant()
	fmt.Println(decision.Verdict(), err)
	// Output: error policy did not reach a decision: NoBundle
}

func ExampleDecision_Grant() {
	decision := exampleEngine().Decide(context.Background(), policiestest.Input())
	grant, err := decision.Grant()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range grant.Requests() {
		mode, clamped := grant.FileMode(r, 0o644)
		fmt.Printf("%s %v clamped: %v\n", r.File, mode, clamped)
	}
	// Output: db-password -r--r----- clamped: true
}

func ExampleInput_Validate() {
	in := policiestest.Input(func(in *policies.Input) { in.Requests[0].Secret = "local://node/payments/../orders/key" })
	fmt.Println(in.Validate())
	// Output: input field requests[0]: secret is not an absolute id; hint: use <provider>://<backend>/<path>[#key][@version] without . and .. elements
}

func ExampleCompile_refused() {
	_, err := policies.Compile(context.Background(), policies.Bundle{
		Manifest: policies.Manifest{Contract: policies.Contract},
		Digest:   "sha256:" + policiestest.Digest,
		Modules:  map[string]string{"portcullis/checks/web/web.rego": "package portcullis.checks.web\n\ndeny contains {} if input.pod.hostPid"},
	}, policies.Options{})
	fmt.Println(err)
	// Output: portcullis/checks/web/web.rego: the package lacks the schema of the input; hint: put a METADATA block with schemas: [input: schema.input] above package, and no other schemas
}
