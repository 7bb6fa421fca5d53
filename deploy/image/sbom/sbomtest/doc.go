// Package sbomtest checks bills of materials in tests: against the schema that
// CycloneDX publishes, and against what "go version -m" says of a program.
//
// The schema is the one in the pinned CycloneDX module, so nothing is fetched.
// Formats that JSON Schema leaves to the reader (dates, references) are checked
// too.
package sbomtest
