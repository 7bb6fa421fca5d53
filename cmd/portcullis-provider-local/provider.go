package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

const (
	providerName    = "local"
	protocolVersion = "v1alpha1"
	// kubeletPrefix begins the attributes that are facts about the pod.
	kubeletPrefix = "csi.storage.k8s.io/"
	// attrClass is sent with the parameters by the driver.
	attrClass = "secretProviderClass"
	// defaultMode is what the upstream driver asks providers for.
	defaultMode = 0o644
)

// Keys of structured log lines.
const (
	keyObject   = "object"
	keyError    = "error"
	keyCount    = "count"
	keyEndpoint = "endpoint"
	keyLocked   = "memoryLocked"
)

// provider answers the upstream provider protocol.
type provider struct {
	v1alpha1.UnimplementedCSIDriverProviderServer
	store    *store
	versions versions
	logger   *slog.Logger
}

// Version says who answers.
func (p *provider) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: protocolVersion, RuntimeName: "portcullis-provider-local", RuntimeVersion: version()}, nil
}

// Mount returns all files that the attributes ask for, or none.
func (p *provider) Mount(ctx context.Context, req *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	requests, err := parseAttributes(req.GetAttributes())
	if err != nil {
		p.logger.WarnContext(ctx, "request refused", slog.String(keyError, err.Error()))
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	resp, object, err := p.read(requests)
	if err != nil {
		p.logger.WarnContext(ctx, "object not served", slog.String(keyObject, object), slog.String(keyError, err.Error()))
		return nil, status.Error(codeOf(err), err.Error())
	}
	p.logger.DebugContext(ctx, "objects served", slog.Int(keyCount, len(resp.GetFiles())))
	return resp, nil
}

// parseAttributes reads the requests by the same code that policy reads them.
func parseAttributes(attributes string) ([]policies.Request, error) {
	var all map[string]string
	if err := json.Unmarshal([]byte(attributes), &all); err != nil {
		return nil, errors.New("attributes are not a JSON object of strings")
	}
	parameters := make(map[string]string, len(all))
	for name, value := range all {
		if name != attrClass && !strings.HasPrefix(name, kubeletPrefix) {
			parameters[name] = value
		}
	}
	reading := secretref.For(providerName).Read(secretref.Params{Provider: providerName, Parameters: parameters})
	if len(reading.LiteralCredentials) > 0 {
		return nil, errors.New("parameters hold a credential in plain text")
	}
	for _, r := range reading.Requests {
		if r.ParseError != "" {
			return nil, errors.New(r.ParseError)
		}
	}
	return reading.Requests, nil
}

var (
	errReplyTooLarge = errors.New("objects together are larger than 3 MiB")
	errOtherVersion  = errors.New("object has another version now than objectVersion says")
)

// read reads each object once, so that its version is that of all its files.
func (p *provider) read(requests []policies.Request) (resp *v1alpha1.MountResponse, object string, err error) {
	contents := make(map[string][]byte, len(requests))
	resp = &v1alpha1.MountResponse{ObjectVersion: []*v1alpha1.ObjectVersion{}}
	total := 0
	for _, r := range requests {
		id, err := secretref.Parse(r.Secret)
		if err != nil {
			return nil, "", err
		}
		data, known := contents[id.Path]
		if !known {
			if data, err = p.store.read(id.Path); err != nil {
				return nil, id.Path, err
			}
			contents[id.Path] = data
			resp.ObjectVersion = append(resp.ObjectVersion, &v1alpha1.ObjectVersion{Id: id.Path, Version: p.versions.of(id.Path, data)})
		}
		if id.Version != "" && id.Version != p.versions.of(id.Path, data) {
			return nil, id.Path, errOtherVersion
		}
		if total += len(data); total > maxReplyBytes {
			return nil, id.Path, errReplyTooLarge
		}
		resp.Files = append(resp.Files, &v1alpha1.File{Path: r.File, Mode: modeOf(r), Contents: data})
	}
	return resp, "", nil
}

// modeOf keeps to the protocol's range; the driver has the last word.
func modeOf(r policies.Request) int32 {
	if r.Mode == nil || *r.Mode == 0 {
		return defaultMode
	}
	return int32(*r.Mode & 0o777)
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, errNoObject), errors.Is(err, errOtherVersion):
		return codes.NotFound
	case errors.Is(err, errTooLarge), errors.Is(err, errReplyTooLarge):
		return codes.ResourceExhausted
	case errors.Is(err, errUnstable), errors.Is(err, errEmpty):
		return codes.Unavailable
	default:
		return codes.FailedPrecondition
	}
}
