// Package apiserver reads the Kubernetes objects that a decision needs from the
// API server of the cluster.
//
// It promises that an object is either what the API server says, not older than
// a stated bound, or an error. kube.ErrNotFound means that the API server itself
// has answered that there is no such object; whatever else goes wrong (no
// permission, too many requests, a resource that is not served, an answer that
// cannot be read, silence) is an *UnavailableError, after which nothing is
// granted and nothing is revoked. Errors repeat no text of the API server.
//
// The bounds: classes and service accounts are read live and shared for two
// seconds, so that granting stops two seconds after the API server does. Pods of
// this node, namespaces and the CSIDriver come from a watch; a watch that has
// said nothing for three minutes, not even that there is nothing new, is not
// asked, and the object is read live; when it speaks again, it begins with a new
// list, since nobody knows what it left out. A pod of another UID than the
// claimed one, one of more than 32 KiB, and whatever a cache does not hold, is
// read live as well. Nothing remembers that an object is missing, nor an error.
//
// A cluster-wide reader, for the webhook, watches classes and service accounts too,
// under the same rule, and keeps no pods: what it says may be as old as a watch is
// behind, since the mount decides again on what is read live.
//
// What is kept of an object is what a decision reads. Commands, arguments and
// environment variables of containers are dropped as they arrive. Objects that
// are returned are the caller's own.
//
// A pod of this node whose spec changes while it runs, which other images and
// added ephemeral containers do, is told of, also one that is too large to be
// kept. Changes of labels, annotations, namespaces and service accounts are not.
//
// It does not promise that an object has not changed since it was read: every
// object carries its resourceVersion. The caller starts Run, which may fail to
// reach anybody for as long as it likes: reads work without it.
package apiserver
