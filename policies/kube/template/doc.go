// Package template derives the pod that a workload's controller would make.
//
// It promises a pod with everything that a decision reads and that is known before
// the pod exists: name, owner, labels and annotations as the controller sets them,
// with placeholders where something is generated. It does not promise what other
// webhooks would change in it. A caller needs nothing first; the pod is its own.
package template
