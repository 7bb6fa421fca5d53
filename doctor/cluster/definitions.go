package cluster

import (
	"context"
	"strings"

	"github.com/portcullis-csi/portcullis/doctor"
)

// group is that of both kinds.
const group = ".secrets-store.csi.x-k8s.io"

// schema is the part of an OpenAPI schema that names fields.
type schema struct {
	Properties map[string]schema `json:"properties"`
}

// crd is what is read of a CustomResourceDefinition.
type crd struct {
	Metadata struct{ Name string }
	Spec     struct {
		Versions []struct {
			Name   string
			Served bool
			Schema struct{ OpenAPIV3Schema schema }
		}
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

func definitions(ctx context.Context, c *client) doctor.Asked[[]doctor.Definition] {
	return list(ctx, c, question{path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"}, definition)
}

func definition(o *crd) (doctor.Definition, bool) {
	d := doctor.Definition{Name: o.Metadata.Name, Fields: map[string]bool{}}
	if !strings.HasSuffix(d.Name, group) {
		return d, false
	}
	for _, v := range o.Spec.Versions {
		if v.Served {
			d.Served = append(d.Served, v.Name)
		}
		if v.Name == "v1" {
			fields(v.Schema.OpenAPIV3Schema, "", d.Fields)
		}
	}
	for _, c := range o.Status.Conditions {
		d.Established = d.Established || c.Type == "Established" && c.Status == "True"
	}
	return d, true
}

// fields notes the fields of two levels, as paths.
func fields(s schema, above string, into map[string]bool) {
	for name, below := range s.Properties {
		into[above+name] = true
		if above == "" {
			fields(below, name+".", into)
		}
	}
}
