// Package cluster reads what decisions are about from a cluster, for somebody at
// a command line: with that person's kubeconfig and rights, each object once.
//
// It promises to ask for nothing but SecretProviderClasses, namespaces and
// service accounts by name, and for lists of pods; never for Secrets. An answer
// is what the API server says, kube.ErrNotFound if it says that there is no such
// object, or a *RefusedError, which names the verb and the resource. Errors
// repeat no text of the API server.
//
// It is not for daemons, which read by package apiserver: a kubeconfig may name a
// program that fetches credentials, and it is started, as kubectl does. What was
// read once is not read again, so a Reader is for one run of a command.
package cluster
