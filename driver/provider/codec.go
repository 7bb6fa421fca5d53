package provider

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
)

// codec encodes requests and decodes replies without leaving copies: the stock
// codec copies every bytes field to the heap, where it stays until collected
// and beyond (measured: tens of thousands of copies after twenty calls).
type codec struct {
	inspect func(fragment []byte) // sees what will be wiped; nil outside tests
}

// Name is the content subtype that providers expect.
func (codec) Name() string { return "proto" }

// Marshal hands the request's buffer to grpc, which returns it to wiper.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*request)
	if !ok || r.taken {
		return nil, errors.New("encode request: not a fresh request")
	}
	r.taken = true
	return mem.BufferSlice{mem.NewBuffer(&r.b, wiper{mem.NopBufferPool{}})}, nil
}

// Unmarshal decodes a reply. What is wrong with it is kept in the reply: an
// error from here would have to pass through grpc as a status.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	defer c.wipe(data)
	r, ok := v.(*reply)
	if !ok {
		return errors.New("decode reply: not a reply")
	}
	r.decode(data)
	return nil
}

// wipe overwrites received fragments. Those of up to 1 KiB never went through
// the pool, so it has to happen here; to their capacity, since the method is
// unary and nobody else's message shares the frame.
func (c codec) wipe(data mem.BufferSlice) {
	for _, b := range data {
		p := b.ReadOnlyData()
		p = p[:cap(p)]
		if c.inspect != nil {
			c.inspect(p)
		}
		clear(p)
	}
}

// wiper overwrites buffers on their way back: those of the requests, and those
// of replies that were given up half-way and so never reached the codec.
type wiper struct{ mem.BufferPool }

// Put overwrites a buffer and returns it.
func (w wiper) Put(p *[]byte) {
	clear((*p)[:cap(*p)])
	w.BufferPool.Put(p)
}

// encodingGuard gives up calls whose reply is compressed: inflating puts the
// secret into buffers that nobody wipes. grpc has no option that refuses it
// where another package has registered gzip, as OpenTelemetry's exporter does.
type encodingGuard struct{}

// guarded is what the guard knows of one call.
type guarded struct {
	cancel     context.CancelFunc
	compressed atomic.Bool
}

type guardKey struct{}

// newGuarded returns a context whose call the guard watches.
func newGuarded(ctx context.Context) (context.Context, *guarded) {
	ctx, cancel := context.WithCancel(ctx)
	g := &guarded{cancel: cancel}
	return context.WithValue(ctx, guardKey{}, g), g
}

// HandleRPC looks at headers only; payloads pass by unseen.
func (encodingGuard) HandleRPC(ctx context.Context, s stats.RPCStats) {
	header, ok := s.(*stats.InHeader)
	if !ok || header.Compression == "" || header.Compression == "identity" {
		return
	}
	if g, ok := ctx.Value(guardKey{}).(*guarded); ok {
		g.compressed.Store(true)
		g.cancel()
	}
}

// TagRPC has nothing to add.
func (encodingGuard) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn has nothing to add.
func (encodingGuard) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn has nothing to see.
func (encodingGuard) HandleConn(context.Context, stats.ConnStats) {}
