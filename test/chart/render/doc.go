// Package render renders the chart as Helm does, with the libraries of Helm 3
// and Helm 4, and without a cluster.
//
// It promises what helm template prints, plus hooks, CRDs and notes: values
// merged over the chart's own, checked by its schema, and the versions of
// Kubernetes that the chart excludes refused. It promises nothing about what an
// API server says of the result: that is for package openapi and the lab.
package render
