// Package chart holds the Helm chart to what it promises: it renders
// deploy/chart for many values and versions of Kubernetes with the libraries of
// both supported versions of Helm, and reads the manifests.
//
// Package openapi knows what an API server takes, package readme writes the
// chart's README, package pack the archive. It is a module of its own, so that
// Helm and what it imports never reach the product's go.mod.
package chart
