package log_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func Example() {
	state, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(state) }() // what is left is in the temporary directory
	l, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(state, "audit"), Origin: "prod-eu1/nodes/node-7",
		Boundary: func(kind string, state []byte) ([]byte, error) { // package audit has a real one
			return fmt.Appendf(nil, `{"type":%q,"log":%s}`, kind, state), nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := l.Append(context.Background(), []byte(`{"id":"a","time":"2026-01-15T12:00:00Z"}`))
	fmt.Println(index, err)
	vkey, err := l.VerifierKey()
	fmt.Println(err, l.Close())

	report, err := auditlog.Verify(context.Background(), auditlog.VerifyConfig{
		Path: filepath.Join(state, "audit", auditlog.EpochFile(1)), VKey: vkey,
	})
	fmt.Println(report.Origin, report.Events, report.Tail, err)
	// Output:
	// 1 <nil>
	// <nil> <nil>
	// prod-eu1/nodes/node-7 2 0 <nil>
}
