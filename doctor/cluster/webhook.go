package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

const (
	dialTimeout  = 3 * time.Second
	maxEndpoints = 32
)

// endpoints reads the replicas of the webhook's Service, and what those that are
// ready serve.
func endpoints(ctx context.Context, api *client, config Config) doctor.Asked[[]doctor.Endpoint] {
	slices := list(ctx, api, question{
		path:  "/apis/discovery.k8s.io/v1/namespaces/" + url.PathEscape(config.Namespace) + "/endpointslices",
		query: url.Values{"labelSelector": {discoveryv1.LabelServiceName + "=" + doctor.WebhookService}},
	}, whole[discoveryv1.EndpointSlice])
	if slices.Err != nil {
		return doctor.Asked[[]doctor.Endpoint]{Err: slices.Err}
	}
	var found []doctor.Endpoint
	for i := range slices.Value {
		found = append(found, replicas(&slices.Value[i])...)
	}
	found = found[:min(len(found), maxEndpoints)]
	var asked sync.WaitGroup
	for i := range found {
		if found[i].Ready {
			asked.Go(func() { serves(ctx, &found[i]) })
		}
	}
	asked.Wait()
	return doctor.Asked[[]doctor.Endpoint]{Value: found}
}

// replicas are the endpoints of a slice, each at its first address and port.
func replicas(slice *discoveryv1.EndpointSlice) []doctor.Endpoint {
	port := ""
	for _, p := range slice.Ports {
		if p.Port != nil {
			port = strconv.Itoa(int(*p.Port))
		}
	}
	var found []doctor.Endpoint
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		one := doctor.Endpoint{Name: e.Addresses[0], Address: net.JoinHostPort(e.Addresses[0], port), Ready: e.Conditions.Ready == nil || *e.Conditions.Ready}
		if e.TargetRef != nil && e.TargetRef.Name != "" {
			one.Name = e.TargetRef.Name
		}
		found = append(found, one)
	}
	return found
}

// serves notes the certificates of a handshake. It believes none of them: to judge
// them is what they are read for, and nothing is sent.
func serves(ctx context.Context, e *doctor.Endpoint) {
	ctx, stop := context.WithTimeout(ctx, dialTimeout)
	defer stop()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // nothing is sent, and the chain is judged
	connection, err := dialer.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		e.Err = errors.New("it cannot be reached from here")
		return
	}
	if c, isTLS := connection.(*tls.Conn); isTLS {
		e.Chain = c.ConnectionState().PeerCertificates
	}
	_ = connection.Close() // nothing was written
}
