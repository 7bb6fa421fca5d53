package main

import (
	"fmt"
	"slices"
)

// image says what one image holds.
type image struct {
	name        string
	description string
	programs    []string // the first is the entrypoint
	user        string
	// roots: whether to add Mozilla's certificate authorities.
	roots bool
}

// images returns all images.
func images() []image {
	return []image{
		{
			name:        "portcullis-node",
			description: "Portcullis node plugin: secrets for pods, released by signed policy",
			programs:    []string{"portcullis-node", "portcullis"},
			// It mounts, and kubelet's and the providers' sockets are root's.
			user: "0:0",
			// The API server of a cluster is checked with the cluster's own
			// authority; one that is named in a kubeconfig may have a public one.
			roots: true,
		},
		{
			name:        "portcullis-webhook",
			description: "Portcullis admission webhook: the policy of secrets, asked when a pod is made",
			programs:    []string{"portcullis-webhook", "portcullis"},
			// It mounts nothing and needs no capability.
			user: "65532:65532",
			// Registries that policy is pulled from have public certificates.
			roots: true,
		},
		{
			name:        "portcullis-provider-local",
			description: "Portcullis provider that serves the files of a directory",
			programs:    []string{"portcullis-provider-local"},
			// The plugin trusts sockets of root only, and makes an exception at the
			// price of the capability DAC_OVERRIDE. It needs no capability itself.
			user: "0:0",
		},
	}
}

// chosen returns the named images, all when there is no name.
func chosen(names []string) ([]image, error) {
	all := images()
	if len(names) == 0 {
		return all, nil
	}
	var found []image
	var known []string
	for _, i := range all {
		known = append(known, i.name)
		if slices.Contains(names, i.name) {
			found = append(found, i)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("build image %q: there is none of that name; hint: one of %q", n, known)
		}
	}
	return found, nil
}
