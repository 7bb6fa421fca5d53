// Package admissionpolicy holds no code, only tests of the chart's
// ValidatingAdmissionPolicies in a real API server.
//
// They promise that each policy admits, warns of and refuses what the documents say,
// in every mode, that the plugin writes the status of its own node only, and that
// package doctor/refusals says of pods what the policies do. There is nothing to do
// first but `go run ./test/cluster build`.
package admissionpolicy
