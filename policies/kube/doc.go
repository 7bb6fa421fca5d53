// Package kube makes a policy input out of Kubernetes objects, for both gates.
//
// It promises that the same objects give the same input at admission, at
// mount, on republish and in the command line (promise P2), and that the
// parameters that policy sees are those that the provider will get: the class
// merged with the volume's attributes as the upstream driver merges them
// (promise P3). Every input that BuildInput returns is within the bounds of
// the contract.
//
// It does not read objects from a cluster and does not confirm an identity:
// the caller does that first, and hands over only what the API server says.
// What it cannot turn into an input is a *FieldError, which names a field and a
// remedy, or a *MissingFactError, after which nothing is decided.
package kube
