package provider_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// cut divides raw into fragments of their own memory.
func cut(raw []byte, size int) mem.BufferSlice {
	var data mem.BufferSlice
	for part := range slices.Chunk(raw, max(1, size)) {
		data = append(data, mem.SliceBuffer(bytes.Clone(part)))
	}
	return data
}

// FuzzReply gives raw bytes, in fragments of any size, to the codec and the
// checks. Whatever passes must be what the generated code reads from the same
// bytes, and must be exactly what was granted.
func FuzzReply(f *testing.F) {
	decent := providertest.Response(map[string]string{"a": canary, "b/c": ""})
	for _, change := range []func(*v1alpha1.MountResponse){
		func(*v1alpha1.MountResponse) {},
		func(r *v1alpha1.MountResponse) { r.Error = &v1alpha1.Error{Code: "E"} },
		func(r *v1alpha1.MountResponse) { r.Files[0].Path = "../a" },
		func(r *v1alpha1.MountResponse) { r.Files[1].Path = "a" },
		func(r *v1alpha1.MountResponse) { r.Files[0].Mode = -1 },
		func(r *v1alpha1.MountResponse) { r.ObjectVersion[0].Id = "\xff" },
		func(r *v1alpha1.MountResponse) {
			r.ProtoReflect().SetUnknown([]byte{0x20, 1, 0x2d, 1, 2, 3, 4, 0x31, 1, 2, 3, 4, 5, 6, 7, 8})
		},
	} {
		r := proto.CloneOf(decent)
		change(r)
		raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(r)
		if err != nil {
			raw = []byte{0x0a, 0x03, 0x0a, 0x01, 0xff} // invalid UTF-8, which Marshal refuses
		}
		f.Add(raw, 3)
		f.Add(raw, len(raw))
	}
	for _, row := range hostile() {
		if r, err := row.handler(f.Context(), &v1alpha1.MountRequest{}); err == nil && proto.Size(r) < 10_000 {
			raw, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(r)
			f.Add(raw, 7)
		}
	}
	f.Add([]byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 1)
	grant := allowed(f, objects("a", "b/c")).Grant
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		data := cut(raw, size)
		got, contents, err := provider.Accept(grant, data)
		for i, b := range data {
			if bytes.ContainsFunc(b.ReadOnlyData(), func(r rune) bool { return r != 0 }) {
				t.Errorf("fragment %d is not wiped", i)
			}
		}
		if err != nil {
			var e *provider.Error
			if !errors.As(err, &e) || contents != nil {
				t.Errorf("Accept(%q) = %T %v with %d contents", raw, err, err, len(contents))
			}
			return
		}
		var want v1alpha1.MountResponse
		if err := proto.Unmarshal(raw, &want); err != nil {
			t.Fatalf("Accept(%q) = nil, the generated code says %v", raw, err)
		}
		wantContents := map[string][]byte{}
		for _, f := range want.GetFiles() {
			wantContents[f.GetPath()] = append([]byte{}, f.GetContents()...)
		}
		if diff := cmp.Diff(wantContents, contents); diff != "" {
			t.Errorf("Accept(%q) (-want +got):\n%s", raw, diff)
		}
		if len(got.Files) != 2 || got.Files[0].Path != "a" || got.Files[1].Path != "b/c" {
			t.Errorf("Accept(%q) = %+v, want a and b/c", raw, got.Files)
		}
		for _, file := range got.Files {
			if file.Mode&^0o440 != 0 || file.Mode == 0 {
				t.Errorf("Accept(%q): mode of %q = %v", raw, file.Path, file.Mode)
			}
		}
	})
}
