package openapi

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const prefix = "#/definitions/"

// Spec is what one version of Kubernetes takes.
type Spec struct {
	Tag         string
	definitions map[string]*schema
	kinds       map[string]*schema // by apiVersion/kind
	customs     map[string]*custom // by apiVersion/kind
}

// schema is the part of a definition that says what is refused.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Properties map[string]*schema `json:"properties"`
	Additional *schema            `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	Required   []string           `json:"required"`
	Enum       []any              `json:"enum"`
	ListType   string             `json:"x-kubernetes-list-type"`
	ListKeys   []string           `json:"x-kubernetes-list-map-keys"`
	Kinds      []groupVersionKind `json:"x-kubernetes-group-version-kind"`

	name string // of the definition
}

type groupVersionKind struct{ Group, Version, Kind string }

func (k groupVersionKind) String() string {
	if k.Group == "" {
		return k.Version + "/" + k.Kind
	}
	return k.Group + "/" + k.Version + "/" + k.Kind
}

// Load fetches and reads the document of a version.
func Load(ctx context.Context, v Version) (*Spec, error) {
	file, err := v.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(v.Tag, text)
}

func parse(tag string, text []byte) (*Spec, error) {
	var document struct{ Definitions map[string]*schema }
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("parse OpenAPI of Kubernetes %s: %w", tag, err)
	}
	s := &Spec{Tag: tag, definitions: document.Definitions, kinds: map[string]*schema{}, customs: map[string]*custom{}}
	for name, d := range s.definitions {
		d.name = name
		for _, kind := range d.Kinds {
			// DeleteOptions and WatchEvent are of every group, and nobody applies them.
			if len(d.Kinds) == 1 {
				s.kinds[kind.String()] = d
			}
		}
	}
	for name, d := range s.definitions {
		if err := s.resolvable(name, d); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// resolvable reports a reference to nothing, which would otherwise be found
// only by the object that uses it.
func (s *Spec) resolvable(name string, d *schema) error {
	if d == nil {
		return nil
	}
	if d.Ref != "" {
		if _, ok := s.definitions[strings.TrimPrefix(d.Ref, prefix)]; !ok {
			return fmt.Errorf("OpenAPI of Kubernetes %s: %s refers to %s, which is not there", s.Tag, name, d.Ref)
		}
	}
	for key, property := range d.Properties {
		if err := s.resolvable(name+"."+key, property); err != nil {
			return err
		}
	}
	if err := s.resolvable(name, d.Additional); err != nil {
		return err
	}
	return s.resolvable(name, d.Items)
}

// Validate returns what is wrong with an object, each with the path of the field.
func (s *Spec) Validate(object map[string]any) []string {
	apiVersion, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	if c, ok := s.customs[apiVersion+"/"+kind]; ok {
		return c.validate(object)
	}
	d, ok := s.kinds[apiVersion+"/"+kind]
	if !ok {
		return []string{fmt.Sprintf("Kubernetes %s has no kind %s/%s", s.Tag, apiVersion, kind)}
	}
	w := &walk{spec: s}
	w.value("", d, object)
	return w.found
}
