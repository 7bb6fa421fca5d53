// Package openapi says what the API server of a version of Kubernetes would
// refuse of an object, from the OpenAPI document that this version was released
// with: fields that it does not know, wrong types, missing fields, values
// outside an enumeration, entries of a keyed list that are there twice.
//
// It does not know defaults, and nothing of the validation that API servers have
// in code: for that there is the lab. Custom resources are checked by the schema
// of their definition.
package openapi
