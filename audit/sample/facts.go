package sample

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

// policy is what decides, and the archive that is kept of it.
type policy struct {
	engine  *policies.Engine
	archive []byte
}

func starter(ctx context.Context) (p policy, err error) {
	files, err := rego.Starter()
	if err != nil {
		return p, err
	}
	b, err := bundle.LoadFS(files)
	if err != nil {
		return p, err
	}
	var archive bytes.Buffer
	if err := bundle.WriteTarball(&archive, b); err != nil {
		return p, err
	}
	engine, err := policies.Compile(ctx, b, policies.Options{Budget: decideWithin, Clock: time.Now})
	if err != nil {
		return p, fmt.Errorf("compile starter policy: %w", err)
	}
	return policy{engine, archive.Bytes()}, nil
}

func (p policy) report() audit.Bundle {
	return audit.Bundle{Digest: p.engine.Digest(), Serial: p.engine.Manifest().Serial}
}

func (p policy) decide(ctx context.Context, in policies.Input) policies.Decision {
	in.NowNS = time.Now().UnixNano()
	return p.engine.Decide(ctx, in)
}

// mount is what policy sees of payments/api-0, whose service account has a grant
// in the starter policy.
func mount() policies.Input {
	return policies.Input{
		Contract: policies.Contract, Phase: policies.PhaseMount, Cluster: cluster,
		Subject:  subject("payments", "api", "11111111-1111-4111-8111-111111111111"),
		Pod:      pod("registry.example/payments/api:1.0"),
		SPC:      class("payments-db"),
		Volume:   policies.Volume{Name: "secrets", ReadOnly: true, Ephemeral: true, VolumeMountGroup: new(int64(2000))},
		Requests: []policies.Request{request("password"), request("user")},
	}
}

// strangers is another team's pod that asks for one of the same secrets.
func strangers() policies.Input {
	in := mount()
	in.Subject = subject("shop", "web", "22222222-2222-4222-8222-222222222222")
	in.Pod = pod("registry.example/shop/web:1.0")
	in.SPC = class("curious")
	in.Requests = in.Requests[:1]
	return in
}

func request(file string) policies.Request {
	return policies.Request{Secret: "local://node/payments/db-" + file, File: file}
}

func subject(namespace, account, uid string) policies.Subject {
	return policies.Subject{
		Namespace: namespace, NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": namespace},
		ServiceAccount: account, PodName: account + "-0", PodUID: uid, Node: node, TokenVerified: new(true),
	}
}

func pod(image string) policies.Pod {
	return policies.Pod{
		FSGroup: new(int64(2000)), HostUsers: true,
		Containers: []policies.Container{{
			Name: "main", Image: image, Kind: policies.ContainerMain,
			RunAsUser: new(int64(1000)), RunAsNonRoot: new(true), MountsVolume: true,
		}},
	}
}

func class(name string) policies.SPC {
	sum := sha256.Sum256([]byte(name))
	return policies.SPC{
		Name: name, UID: "33333333-3333-4333-8333-333333333333", Generation: 1, Provider: "local",
		ParametersSHA256: hex.EncodeToString(sum[:]), Parameters: map[string]string{"objects": "(present)"},
	}
}

func claimOf(in policies.Input) audit.Claim {
	s := in.Subject
	return audit.Claim{Namespace: s.Namespace, Pod: s.PodName, PodUID: s.PodUID, ServiceAccount: s.ServiceAccount, Volume: in.Volume.Name}
}

// files are those of mount, of which the password has a new version at times.
func files(version, previous string) []audit.File {
	return []audit.File{
		{Path: "password", Mode: 0o440, Size: int64(len("correct horse")), Version: version, PreviousVersion: previous},
		{Path: "user", Mode: 0o440, Size: int64(len("scott")), Version: "v1"},
	}
}
