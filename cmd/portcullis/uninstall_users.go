package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

const (
	// maxNames are named; the others are counted.
	maxNames = 50
	// maxBrief are named where one line is all the room there is.
	maxBrief = 10
)

// users are the pods with a volume of the driver, by what made them.
type users struct {
	pods   int
	groups []*userGroup // in the order of the list, which is that of the names
}

type userGroup struct {
	namespace, owner string
	pods             int
	names            []string // the first, as long as fewer than maxNames are known
}

// driverUsers reads one page of pods after the other and keeps no more of them
// than their names.
func driverUsers(ctx context.Context, reader *cluster.Reader, driver string) (*users, error) {
	found := &users{}
	index := map[[2]string]*userGroup{}
	err := reader.EveryPod(ctx, "", func(p *corev1.Pod) error {
		if !holdsDriver(p, driver) {
			return nil
		}
		key := [2]string{p.Namespace, ownerOf(p)}
		group := index[key]
		if group == nil {
			group = &userGroup{namespace: key[0], owner: key[1]}
			index[key] = group
			found.groups = append(found.groups, group)
		}
		if found.pods < maxNames {
			group.names = append(group.names, p.Name)
		}
		group.pods++
		found.pods++
		return nil
	})
	return found, err
}

// holdsDriver reports whether a pod needs the plugin, now or for its end: kubelet
// has unmounted what ended by itself, and may wait for that where the pod is deleted.
func holdsDriver(p *corev1.Pod, driver string) bool {
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	if ended && p.DeletionTimestamp == nil {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.CSI != nil && v.CSI.Driver == driver })
}

// ownerOf is what people scale or delete: a Deployment in place of its ReplicaSet,
// whose name is the Deployment's and the hash of the template.
func ownerOf(p *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil {
		return "no owner"
	}
	hash := p.Labels["pod-template-hash"]
	if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && hash != "" && owner.Kind == "ReplicaSet" {
		return "Deployment/" + name
	}
	return owner.Kind + "/" + owner.Name
}

// write lists the pods for people.
func (u *users) write(w io.Writer) {
	namespace, named := "", 0
	for _, g := range u.groups {
		if len(g.names) == 0 {
			continue
		}
		if g.namespace != namespace {
			namespace = g.namespace
			fmt.Fprintf(w, "namespace %s\n", visible(namespace))
		}
		fmt.Fprintf(w, "  %s: %s\n", visible(g.owner), counted(g.pods, "pod", "pods"))
		for _, name := range g.names {
			fmt.Fprintf(w, "    %s\n", visible(name))
			named++
		}
	}
	if rest := u.pods - named; rest > 0 {
		fmt.Fprintf(w, "and %s\n", counted(rest, "more pod", "more pods"))
	}
}

// brief names pods in one line.
func (u *users) brief() string {
	var names []string
	for _, g := range u.groups {
		for _, name := range g.names {
			if len(names) < maxBrief {
				names = append(names, visible(g.namespace+"/"+name))
			}
		}
	}
	text := strings.Join(names, ", ")
	if rest := u.pods - len(names); rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
