package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
	"github.com/portcullis-csi/portcullis/deploy/image/notices"
	"github.com/portcullis-csi/portcullis/deploy/image/oci"
	"github.com/portcullis-csi/portcullis/deploy/image/sbom"
)

// createdWith stands in the history of each layer.
const createdWith = "go run -C deploy/image ."

// insecureLabel marks development builds for whoever looks at an image.
const insecureLabel = "io.github.portcullis-csi.insecure"

// builder makes the images of one run.
type builder struct {
	source  compile.Source
	options options
	targets []compile.Target
	images  []image
	packer  oci.Packer
	license []byte
	goroot  string
	roots   sbom.Extra
}

// built is an image of all platforms.
type built struct {
	ref       name.Tag
	index     v1.ImageIndex
	images    []v1.Image
	documents []document
}

// document is the description of one platform's image.
type document struct {
	target compile.Target
	data   []byte
}

func newBuilder(source compile.Source, o options) (*builder, error) {
	b := &builder{source: source, options: o, targets: compile.Targets()}
	var err error
	if b.images, err = chosen(o.images); err != nil {
		return nil, err
	}
	if len(o.platforms) > 0 {
		b.targets = nil
	}
	for _, p := range o.platforms {
		t, err := compile.ParseTarget(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(b.targets, t) {
			b.targets = append(b.targets, t)
		}
	}
	slices.SortFunc(b.targets, func(x, y compile.Target) int { return strings.Compare(x.Arch, y.Arch) })
	if b.license, err = os.ReadFile(filepath.Join(source.Root, "LICENSE")); err != nil {
		return nil, fmt.Errorf("read licence: %w", err)
	}
	if b.roots, err = rootsExtra(); err != nil {
		return nil, err
	}
	b.packer = oci.Packer{Time: source.Time, Dir: filepath.Join(o.out, ".layers")}
	return b, nil
}

// rootsExtra finds what go.mod pins, in this very program.
func rootsExtra() (sbom.Extra, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return sbom.Extra{}, errors.New("read own modules: built without module support")
	}
	for _, m := range info.Deps {
		if m.Path == rootsModule {
			return sbom.Extra{
				Name: m.Path, Version: m.Version, Sum: m.Sum, License: "MPL-2.0",
				Description: "certificate authorities of the Mozilla root program, as /etc/ssl/certs/ca-certificates.crt",
			}, nil
		}
	}
	return sbom.Extra{}, fmt.Errorf("read own modules: %s is not among them", rootsModule)
}

// run builds, writes and pushes, and says so.
func (b *builder) run(ctx context.Context, w io.Writer) error {
	var err error
	if b.goroot, err = b.source.Goroot(ctx); err != nil {
		return err
	}
	binaries := map[compile.Target]map[string]compile.Binary{}
	for _, t := range b.targets {
		if binaries[t], err = b.compile(ctx, t); err != nil {
			return err
		}
	}
	var all []built
	for _, i := range b.images {
		made, err := b.assemble(ctx, i, binaries)
		if err != nil {
			return fmt.Errorf("build image %s: %w", i.name, err)
		}
		if err := b.write(w, made); err != nil {
			return fmt.Errorf("write image %s: %w", i.name, err)
		}
		all = append(all, made)
	}
	if b.options.push == "" {
		return nil
	}
	for _, made := range all {
		if err := b.push(ctx, w, made); err != nil {
			return err
		}
	}
	return nil
}

// compile builds all programs of a platform at once.
func (b *builder) compile(ctx context.Context, t compile.Target) (map[string]compile.Binary, error) {
	t.Insecure = b.options.insecure
	var programs []string
	for _, i := range b.images {
		programs = append(programs, i.programs...)
	}
	kind := "release"
	if t.Insecure {
		kind = "insecure"
	}
	list, err := b.source.Build(ctx, t, filepath.Join(b.options.out, ".programs", kind, t.OS+"-"+t.Arch), programs...)
	if err != nil {
		return nil, err
	}
	byName := map[string]compile.Binary{}
	for _, p := range list {
		byName[p.Name] = p
	}
	return byName, nil
}

// assemble makes the image of each platform and joins them.
func (b *builder) assemble(ctx context.Context, i image, binaries map[compile.Target]map[string]compile.Binary) (built, error) {
	labels := b.labels(i)
	ref, err := b.reference(b.options.repository, i)
	if err != nil {
		return built{}, err
	}
	made := built{ref: ref}
	for _, t := range b.targets {
		var programs []compile.Binary
		for _, p := range i.programs {
			programs = append(programs, binaries[t][p])
		}
		t.Insecure = b.options.insecure
		packages, err := b.source.Packages(ctx, t, i.programs...)
		if err != nil {
			return built{}, err
		}
		modules, err := notices.Collect(packages, b.goroot)
		if err != nil {
			return built{}, err
		}
		layers, err := b.layers(i, programs, modules)
		if err != nil {
			return built{}, err
		}
		img, err := oci.Image(oci.Config{
			Platform: v1.Platform{OS: t.OS, Architecture: t.Arch}, Entrypoint: "/" + i.programs[0], User: i.user,
			Created: b.source.Time, Labels: labels, CreatedWith: createdWith,
		}, layers...)
		if err != nil {
			return built{}, err
		}
		data, err := b.describe(i, img, programs, modules)
		if err != nil {
			return built{}, err
		}
		made.images = append(made.images, img)
		made.documents = append(made.documents, document{t, data})
	}
	made.index, err = oci.Index(labels, made.images...)
	return made, err
}

// layers puts what seldom changes at the bottom, and each program into a layer
// of its own: a node fetches only what is new.
func (b *builder) layers(i image, programs []compile.Binary, modules []notices.Module) ([]v1.Layer, error) {
	base := []oci.File{
		{Path: "/licenses/LICENSE", Data: b.license},
		{Path: "/licenses/THIRD_PARTY_NOTICES", Data: notices.Text(modules)},
	}
	if i.roots {
		base = append(base,
			oci.File{Path: "/etc/ssl/certs/ca-certificates.crt", Data: roots()},
			oci.File{Path: "/licenses/CERTIFICATES", Data: []byte(b.rootsNotice())})
	}
	bottom, err := b.packer.Layer(base...)
	if err != nil {
		return nil, err
	}
	layers := []v1.Layer{bottom}
	for _, p := range programs {
		data, err := os.ReadFile(p.Path)
		if err != nil {
			return nil, fmt.Errorf("read program: %w", err)
		}
		l, err := b.packer.Layer(oci.File{Path: "/" + p.Name, Executable: true, Data: data})
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

func (b *builder) rootsNotice() string {
	return "/etc/ssl/certs/ca-certificates.crt holds certificate authorities of the Mozilla root program,\n" +
		"taken from the Go module " + b.roots.Name + " " + b.roots.Version + ".\n" +
		"The source of the list, certdata.txt, is under the Mozilla Public License 2.0: https://mozilla.org/MPL/2.0/\n"
}

// describe returns the bill of materials.
func (b *builder) describe(i image, img v1.Image, programs []compile.Binary, modules []notices.Module) ([]byte, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	var extras []sbom.Extra
	if i.roots {
		extras = append(extras, b.roots)
	}
	subject := sbom.Subject{
		Repository: b.options.repository + "/" + b.imageName(i), Version: b.options.version, Digest: digest.String(),
		Arch: config.Architecture, Created: b.source.Time, Revision: b.revision(),
	}
	return sbom.Document(subject, programs, modules, extras...)
}

func (b *builder) imageName(i image) string {
	if b.options.insecure {
		return i.name + "-insecure"
	}
	return i.name
}

func (b *builder) reference(repository string, i image) (name.Tag, error) {
	ref, err := name.NewTag(repository+"/"+b.imageName(i)+":"+b.options.version, name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("name image: %w", err)
	}
	return ref, nil
}

// revision says which commit it is, and when it is not quite that one.
func (b *builder) revision() string {
	if b.source.Revision != "" && b.source.Modified {
		return b.source.Revision + "-modified"
	}
	return b.source.Revision
}

// labels are the annotations of the OCI image specification.
func (b *builder) labels(i image) map[string]string {
	const prefix = "org.opencontainers.image."
	l := map[string]string{
		prefix + "title":       b.imageName(i),
		prefix + "description": i.description,
		prefix + "source":      "https://" + compile.Module,
		prefix + "url":         "https://" + compile.Module,
		prefix + "vendor":      "Portcullis",
		prefix + "version":     b.options.version,
		prefix + "licenses":    "Apache-2.0",
		prefix + "created":     b.source.Time.Format("2006-01-02T15:04:05Z"),
	}
	if r := b.revision(); r != "" {
		l[prefix+"revision"] = r
	}
	if b.options.insecure {
		l[insecureLabel] = "true"
		l[prefix+"description"] = "DEVELOPMENT BUILD, accepts unsigned policy: " + i.description
	}
	return l
}

// push sends an image and the documents about it.
func (b *builder) push(ctx context.Context, w io.Writer, made built) error {
	repository := made.ref.RepositoryStr()
	target := b.options.push + repository[strings.LastIndex(repository, "/"):] + ":" + b.options.version
	ref, err := name.NewTag(target, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	var referrers []oci.Referrer
	for n, d := range made.documents {
		subject, err := partial.Descriptor(made.images[n])
		if err != nil {
			return fmt.Errorf("push: %w", err)
		}
		referrers = append(referrers, oci.Referrer{
			Subject: *subject, MediaType: sbom.MediaType, Data: d.data,
			Annotations: map[string]string{"org.opencontainers.image.created": b.source.Time.Format("2006-01-02T15:04:05Z")},
		})
	}
	if err := oci.Push(ctx, ref, made.index, referrers...); err != nil {
		return err
	}
	digest, err := made.index.Digest()
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	say(w, "pushed %s@%s with %d documents\n", ref, digest, len(referrers))
	return nil
}
