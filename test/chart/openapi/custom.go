package openapi

import (
	"encoding/json"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// custom is one version of a custom resource.
type custom struct {
	schema    *structural.Structural
	validator validation.SchemaValidator
}

// Define adds the kinds of a CustomResourceDefinition, after checking that the
// definition itself is one and has structural schemas, without which an API
// server would serve none of it.
func (s *Spec) Define(object map[string]any) error {
	if wrong := s.Validate(object); len(wrong) > 0 {
		return fmt.Errorf("definition is refused: %v", wrong)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &crd); err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		c, err := newCustom(version)
		if err != nil {
			return fmt.Errorf("version %s of %s: %w", version.Name, crd.Name, err)
		}
		s.customs[crd.Spec.Group+"/"+version.Name+"/"+crd.Spec.Names.Kind] = c
	}
	return nil
}

func newCustom(version apiextensionsv1.CustomResourceDefinitionVersion) (*custom, error) {
	var internal apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(version.Schema, &internal, nil); err != nil {
		return nil, err
	}
	schema, err := structural.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	if err := structural.ValidateStructural(field.NewPath("openAPIV3Schema"), schema).ToAggregate(); err != nil {
		return nil, fmt.Errorf("schema is not structural: %w", err)
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	return &custom{schema, validator}, err
}

func (c *custom) validate(object map[string]any) []string {
	// Through JSON: the validator knows only its types.
	var generic map[string]any
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &generic)
	}
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, e := range validation.ValidateCustomResource(nil, generic, c.validator) {
		wrong = append(wrong, e.Error())
	}
	pruned := runtime.DeepCopyJSON(generic)
	for _, name := range pruning.PruneWithOptions(pruned, c.schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		wrong = append(wrong, "has the unknown field "+name)
	}
	return wrong
}
