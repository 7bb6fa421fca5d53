package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
	"github.com/portcullis-csi/portcullis/deploy/image/notices"
)

// MediaType is that of the document.
const MediaType = "application/vnd.cyclonedx+json"

// Subject is the image that a document describes.
type Subject struct {
	Repository string // registry and name, without tag
	Version    string
	Digest     string // sha256:..., of the platform's manifest
	Arch       string
	Created    time.Time
	Revision   string // commit; may be empty
}

// Extra is a module whose data, not code, is in the image.
type Extra struct {
	Name, Version, Sum, License string
	Description                 string
}

// Document returns the description in JSON.
func Document(s Subject, binaries []compile.Binary, modules []notices.Module, extras ...Extra) ([]byte, error) {
	d := &document{licenses: map[string][]string{}, components: map[string]cyclonedx.Component{}}
	for _, m := range modules {
		d.licenses[m.Path+"@"+m.Version] = m.Licenses
	}
	root := s.component()
	var top []string
	for _, b := range binaries {
		if err := d.addBinary(s, b); err != nil {
			return nil, fmt.Errorf("describe %s: %w", b.Name, err)
		}
		top = append(top, "file:/"+b.Name)
	}
	for _, e := range extras {
		ref, err := d.addModule(cyclonedx.ComponentTypeData, e.Name, e.Version, e.Sum)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", e.Name, err)
		}
		c := d.components[ref]
		c.Description, c.Licenses = e.Description, choices([]string{e.License})
		d.components[ref] = c
		top = append(top, ref)
	}
	d.depends(root.BOMRef, top)

	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serial(s.Digest)
	bom.Metadata = &cyclonedx.Metadata{Timestamp: s.Created.UTC().Format(time.RFC3339), Component: &root}
	bom.Components = d.sorted()
	slices.SortFunc(d.dependencies, func(a, b cyclonedx.Dependency) int { return cmp.Compare(a.Ref, b.Ref) })
	bom.Dependencies = &d.dependencies
	var out bytes.Buffer
	err := cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out.Bytes(), nil
}

func (s Subject) component() cyclonedx.Component {
	name := s.Repository[strings.LastIndex(s.Repository, "/")+1:]
	purl := "pkg:oci/" + name + "@" + url.PathEscape(s.Digest) + "?arch=" + s.Arch + "&repository_url=" + url.QueryEscape(s.Repository)
	c := cyclonedx.Component{
		BOMRef: purl, Type: cyclonedx.ComponentTypeContainer, Name: s.Repository, Version: s.Version, PackageURL: purl,
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: strings.TrimPrefix(s.Digest, "sha256:")}},
		Licenses: choices([]string{"Apache-2.0"}),
	}
	if s.Revision != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "vcs.revision", Value: s.Revision}}
	}
	return c
}

// document gathers what the binaries share.
type document struct {
	licenses     map[string][]string // by path@version
	components   map[string]cyclonedx.Component
	dependencies []cyclonedx.Dependency
}

func (d *document) addBinary(s Subject, b compile.Binary) error {
	ref := "file:/" + b.Name
	c := cyclonedx.Component{
		BOMRef: ref, Type: cyclonedx.ComponentTypeApplication, Name: b.Name, Version: s.Version,
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: b.SHA256}},
		Licenses: choices([]string{"Apache-2.0"}),
	}
	properties := []cyclonedx.Property{{Name: "go.package", Value: b.Info.Path}}
	for _, setting := range b.Info.Settings {
		properties = append(properties, cyclonedx.Property{Name: "go.build." + setting.Key, Value: setting.Value})
	}
	c.Properties = &properties
	d.components[ref] = c

	std, err := d.addModule(cyclonedx.ComponentTypeLibrary, notices.Standard, strings.TrimPrefix(b.Info.GoVersion, "go"), "")
	if err != nil {
		return err
	}
	refs := []string{std}
	for _, m := range b.Info.Deps {
		linked := effective(m)
		module, err := d.addModule(cyclonedx.ComponentTypeLibrary, linked.Path, linked.Version, linked.Sum)
		if err != nil {
			return err
		}
		refs = append(refs, module)
	}
	d.depends(ref, refs)
	return nil
}

// effective returns the module whose code it is.
func effective(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

func (d *document) addModule(kind cyclonedx.ComponentType, path, version, h1 string) (ref string, err error) {
	purl := "pkg:golang/" + path + "@" + url.PathEscape(version)
	if _, known := d.components[purl]; known {
		return purl, nil
	}
	key := path + "@" + version
	if path == notices.Standard {
		key = path + "@"
	}
	c := cyclonedx.Component{BOMRef: purl, Type: kind, Name: path, Version: version, PackageURL: purl, Licenses: choices(d.licenses[key])}
	if h1 != "" {
		digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h1, "h1:"))
		if err != nil || len(digest) != sha256.Size {
			return "", fmt.Errorf("sum %q of %s is not an h1 sum", h1, path)
		}
		c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(digest)}}
		c.Properties = &[]cyclonedx.Property{{Name: "go.sum", Value: h1}}
	}
	d.components[purl] = c
	return purl, nil
}

func (d *document) depends(ref string, on []string) {
	slices.Sort(on)
	on = slices.Compact(on)
	d.dependencies = append(d.dependencies, cyclonedx.Dependency{Ref: ref, Dependencies: &on})
}

func (d *document) sorted() *[]cyclonedx.Component {
	var all []cyclonedx.Component
	for _, c := range d.components {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	return &all
}

// choices names licences as the schema wants them: one identifier, or one
// expression when all of several apply.
func choices(ids []string) *cyclonedx.Licenses {
	switch len(ids) {
	case 0:
		return nil
	case 1:
		return &cyclonedx.Licenses{{License: &cyclonedx.License{ID: ids[0]}}}
	default:
		return &cyclonedx.Licenses{{Expression: strings.Join(ids, " AND ")}}
	}
}

// serial makes the UUID of a document: version 8, which is free for hashes.
func serial(digest string) string {
	s := sha256.Sum256([]byte("cyclonedx " + digest))
	u := s[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
