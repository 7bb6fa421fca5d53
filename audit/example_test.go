package audit_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
)

func Example() {
	log := &audittest.Log{} // a program opens one of package audit/log
	recorder, err := audit.New(audit.Config{
		Log: log, Logger: slog.New(slog.DiscardHandler),
		Source: audit.Source{Component: "driver", Version: "v1.0.0", Cluster: "prod-eu1", Node: "node-7"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	pod := audit.Claim{Namespace: "payments", Pod: "api-0", PodUID: "6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11", Volume: "secrets"}

	// What must be durable before anything else happens is recorded.
	fmt.Println(recorder.Record(ctx, audit.DriverStarted()))
	// What must not wait is owed.
	recorder.Owe(audit.Unmounted(pod, ""))

	fmt.Println(recorder.Close(ctx))
	for _, leaf := range log.Leaves() {
		e, err := audit.Parse(leaf)
		fmt.Println(e.Code, e.Type, e.Outcome, err)
	}
	// Output:
	// <nil>
	// <nil>
	// PC0001I driver.start success <nil>
	// PC2003I secret.unmount success <nil>
}

func ExampleKinds() {
	for _, k := range audit.Kinds() {
		if k.Type == audit.TypeMount {
			fmt.Println(k.Code(audit.OutcomeSuccess), k.Code(audit.OutcomeDenied), k.Code(audit.OutcomeFailure))
		}
	}
	// Output: PC2001I PC2001W PC2001E
}

func ExampleEvent_Validate() {
	e := audit.DriverStarted()
	e.Reason = "rpc error: the password hunter2 is wrong"
	fmt.Println(e.Validate())
	// Output: audit event field code breaks rule "code"
}
