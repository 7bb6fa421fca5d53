// Package workload finds the secrets volumes of pods and of what makes pods, and
// builds the policy input of each, for the command line.
//
// It promises to read manifests as kubectl and the API server would, strictly:
// unknown fields, fields in another case and keys written twice are refused. The
// pod of a template is the one that its controller would make, as far as that is
// known beforehand: names that are generated have placeholders of the same shape,
// and fields that only a node or the API server can fill are absent, which
// docs/POLICIES.md lists. The input comes from package kube, like that of every
// gate.
//
// It promises nothing about who wrote the objects: an answer about a manifest is
// advice, never a grant. What it takes for granted because no source has it, a
// namespace without labels for example, it says in Volume.Assumed.
package workload
