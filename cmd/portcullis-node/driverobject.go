package main

import (
	"context"
	"errors"
	"strings"
	"time"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

const (
	// readinessTimeout bounds what readiness asks the API server.
	readinessTimeout = 2 * time.Second
	// readinessAge is how old an answer may be. Anybody on the node can ask for
	// readiness as often as he likes, and must not ask the API server with it.
	readinessAge = 5 * time.Second
)

// driverObject is the CSIDriver object, as readiness sees it.
type driverObject struct {
	read func(context.Context) (*storagev1.CSIDriver, error)

	turn     chan struct{} // full while somebody reads, for whom the others wait
	known    time.Time     // when the answer came; zero: never
	problems []identity.Problem
	err      error
}

func newDriverObject(read func(context.Context) (*storagev1.CSIDriver, error)) *driverObject {
	return &driverObject{read: read, turn: make(chan struct{}, 1)}
}

// granting returns why the object lets nothing be granted, or why nobody knows.
func (d *driverObject) granting() error {
	return d.gravest(func(s identity.Severity) bool { return s == identity.SeverityNoGrants })
}

// otherwise returns what else is wrong with the object.
func (d *driverObject) otherwise() error {
	return d.gravest(func(s identity.Severity) bool { return s != identity.SeverityNoGrants })
}

// gravest returns the first problem of these severities, and how many more
// there are.
func (d *driverObject) gravest(counts func(identity.Severity) bool) error {
	problems, err := d.check()
	if err != nil {
		return err
	}
	var found []identity.Problem
	for _, p := range problems {
		if counts(p.Severity) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil
	}
	first := found[0]
	text := (&identity.DriverObjectError{Field: first.Field, Problem: first.Problem}).Error() + "; hint: " + first.Remedy
	if fields := fieldsOf(found[1:]); fields != "" {
		text += "; then see " + fields
	}
	return errors.New(text)
}

func fieldsOf(problems []identity.Problem) string {
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
	}
	return strings.Join(fields, ", ")
}

// check reads the object, unless that was just done.
func (d *driverObject) check() ([]identity.Problem, error) {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	if !d.known.IsZero() && time.Since(d.known) < readinessAge {
		return d.problems, d.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readinessTimeout)
	defer cancel()
	object, err := d.read(ctx)
	d.problems, d.err = nil, nil
	switch {
	case err == nil:
		d.problems = identity.CheckDriverObject(object)
	case errors.Is(err, kube.ErrNotFound):
		d.problems = identity.CheckDriverObject(nil)
	case ctx.Err() != nil: // an error that has no remedy
		d.err = &apiserver.UnavailableError{Object: "CSIDriver object", Reason: apiserver.Timeout}
	default:
		d.err = err
	}
	d.known = time.Now()
	return d.problems, d.err
}

// driverObjectReady returns why nothing is granted on account of the CSIDriver
// object.
func (p *plugin) driverObjectReady() error {
	if p.cluster == nil {
		return nil
	}
	return p.cluster.object.granting()
}

// driverObjectComplete returns what else is wrong with it.
func (p *plugin) driverObjectComplete() error {
	if p.cluster == nil {
		return nil
	}
	return p.cluster.object.otherwise()
}
