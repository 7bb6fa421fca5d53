//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
)

// findings is what doctor says.
type findings struct {
	doctor.Report
	text string
}

// of are the results of a check.
func (f findings) of(check string) []doctor.Result {
	var found []doctor.Result
	for _, r := range f.Results {
		if r.Check == check {
			found = append(found, r)
		}
	}
	return found
}

// doctor runs portcullis doctor on the node, as root and administrator of the
// cluster.
func (w *world) doctor(args ...string) findings {
	w.Helper()
	return w.report(made.portcullis, append([]string{"doctor", "--node-name=" + node}, args...)...)
}

// report runs a command that ends in a doctor's, and reads what it finds.
func (w *world) report(name string, args ...string) findings {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := w.lab.Command(ctx, name, append(args, "-o", "json")...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output() // 3 where something is FAIL
	var f findings
	if parsed := json.Unmarshal(out, &f.Report); parsed != nil {
		w.Fatalf("%s %s = %v, %v:\n%s%s", name, strings.Join(args, " "), err, parsed, out, stderr.String())
	}
	if healthy := f.Healthy(false); healthy != (err == nil) {
		w.Errorf("doctor ends with %v, and finds %d FAIL", err, f.Count(doctor.Fail))
	}
	for _, r := range f.Results {
		f.text += fmt.Sprintf("%s %s %s; hint: %s\n", r.Status, r.Check, r.Finding, r.Hint)
	}
	return f
}
