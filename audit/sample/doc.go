// Package sample writes the log of a node that never was, so that an auditor can
// learn to check one without a cluster.
//
// It promises a log of the product's own making: real decisions of the starter
// policy, two epochs with a replaced key between them, the inputs that were
// kept, and beside the node a public key and a checkpoint as somebody would have
// kept them elsewhere. It promises nothing about the world: nobody mounted
// anything, the cluster is called "sample", and every event says that it comes
// from a build that proves nothing (source.insecure).
//
// A caller needs an empty directory.
package sample
