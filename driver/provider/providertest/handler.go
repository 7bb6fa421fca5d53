package providertest

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Handler answers one Mount call.
type Handler func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error)

// Files returns the content by path, with mode 0644 and a version "v1" for
// each: a decent provider.
func Files(content map[string]string) Handler { return Reply(Response(content)) }

// Response is the reply of Files, for a test to spoil.
func Response(content map[string]string) *v1alpha1.MountResponse {
	r := &v1alpha1.MountResponse{}
	for _, path := range slices.Sorted(maps.Keys(content)) {
		r.Files = append(r.Files, &v1alpha1.File{Path: path, Mode: 0o644, Contents: []byte(content[path])})
		r.ObjectVersion = append(r.ObjectVersion, &v1alpha1.ObjectVersion{Id: path, Version: "v1"})
	}
	return r
}

// Reply always returns r.
func Reply(r *v1alpha1.MountResponse) Handler {
	return func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) { return r, nil }
}

// Raw returns bytes that need not be a message.
func Raw(b []byte) Handler {
	r := &v1alpha1.MountResponse{}
	// Unknown fields are marshalled as they are.
	r.ProtoReflect().SetUnknown(b)
	return Reply(r)
}

// Hang answers only when the caller gives up.
func Hang() Handler {
	return func(ctx context.Context, _ *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

// Fail returns a gRPC status.
func Fail(code codes.Code, text string) Handler {
	return func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		return nil, status.Error(code, text)
	}
}

// Code returns a reply that holds nothing but an error code.
func Code(code string) Handler {
	return Reply(&v1alpha1.MountResponse{Error: &v1alpha1.Error{Code: code}})
}

// InTurn answers the n-th call with the n-th handler, and from then on with
// the last.
func InTurn(handlers ...Handler) Handler {
	var calls atomic.Int64
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		n := min(int(calls.Add(1)), len(handlers))
		return handlers[n-1](ctx, r)
	}
}

// Compressed answers like h, compressed by a compressor that is registered
// with grpc.
func Compressed(h Handler, c encoding.Compressor) Handler {
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		if err := grpc.SetSendCompressor(ctx, c.Name()); err != nil {
			return nil, err
		}
		return h(ctx, r)
	}
}
