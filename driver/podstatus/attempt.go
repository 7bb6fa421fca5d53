package podstatus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

var (
	errPodGone      = errors.New("the pod is gone, another has its name")
	errBeingDeleted = errors.New("the object in its place is still being deleted")
	errContended    = errors.New("somebody changes the object as often as it is read")
)

// maxRounds is how often an attempt reads again what somebody else has changed.
const maxRounds = 6

// attempt brings one object into the state that is wanted.
type attempt struct {
	client client
	want   *spcv1.SecretProviderClassPodStatus // with exactly one owner: the pod
	live   *spcv1.SecretProviderClassPodStatus // what the API server has, as far as known; nil: nothing
	limit  time.Duration                       // for all its requests together
	slow   bool                                // it has the place in the lane
}

// object is what upstream would write of a pod's volumes.
func object(k objectKey, node string, volumes map[string]Status) *spcv1.SecretProviderClassPodStatus {
	o := &spcv1.SecretProviderClassPodStatus{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.name, Namespace: k.namespace, Labels: map[string]string{spcv1.InternalNodeLabel: NodeLabel(node)},
		},
		Status: merge(volumes),
	}
	for _, s := range volumes { // which are of one pod
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: s.Pod, UID: types.UID(s.PodUID)}}
		break
	}
	return o
}

// same reports whether the live object says all that is wanted. What others put
// beside it does not matter.
func same(live, want *spcv1.SecretProviderClassPodStatus) bool {
	a, b := live.Status, want.Status
	return live.Labels[spcv1.InternalNodeLabel] == want.Labels[spcv1.InternalNodeLabel] &&
		slices.Equal(live.OwnerReferences, want.OwnerReferences) &&
		a.PodName == b.PodName && a.SecretProviderClassName == b.SecretProviderClassName && a.Mounted == b.Mounted &&
		a.TargetPath == b.TargetPath && slices.Equal(a.Objects, b.Objects)
}

func (a *attempt) key() objectKey { return objectKey{a.want.Namespace, a.want.Name} }

func (a *attempt) owner() metav1.OwnerReference { return a.want.OwnerReferences[0] }

// run writes until the API server has what is wanted. It leaves in live what it
// last saw there.
func (a *attempt) run(ctx context.Context) error {
	for range maxRounds {
		done, err := a.step(ctx)
		if done || err != nil {
			return err
		}
	}
	return errContended
}

func (a *attempt) step(ctx context.Context) (done bool, err error) {
	switch {
	case a.live == nil:
		return a.create(ctx)
	case a.live.DeletionTimestamp != nil:
		a.live = nil
		return false, errBeingDeleted
	case !slices.ContainsFunc(a.live.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == a.owner().UID }):
		return false, a.replace(ctx)
	case same(a.live, a.want):
		return true, nil
	default:
		return a.update(ctx)
	}
}

func (a *attempt) create(ctx context.Context) (done bool, err error) {
	created, err := a.client.create(ctx, a.want)
	if apierrors.IsAlreadyExists(err) {
		return false, a.read(ctx)
	}
	if err != nil {
		return false, err
	}
	a.live = created
	return true, nil
}

func (a *attempt) read(ctx context.Context) error {
	live, err := a.client.get(ctx, a.key())
	if apierrors.IsNotFound(err) {
		a.live = nil
		return nil
	}
	if err != nil {
		return err
	}
	a.live = live
	return nil
}

func (a *attempt) update(ctx context.Context) (done bool, err error) {
	next := a.live.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	next.Labels[spcv1.InternalNodeLabel] = a.want.Labels[spcv1.InternalNodeLabel]
	next.OwnerReferences, next.Status = a.want.OwnerReferences, a.want.Status
	updated, err := a.client.update(ctx, next)
	switch {
	case apierrors.IsNotFound(err):
		a.live = nil
		return false, nil
	case apierrors.IsConflict(err):
		return false, a.read(ctx)
	case err != nil:
		return false, err
	}
	a.live = updated
	return true, nil
}

// replace makes room where another pod's object has the name: that of a pod
// before ours in a StatefulSet, whose owner is gone and which the garbage
// collector has not come to yet. To change the owner in place, as upstream does,
// is a race with it: collectors before Kubernetes 1.34 delete by UID alone what
// they have read before (kubernetes#114603), and nobody would write it again. What we create anew
// has another UID, which no earlier decision of the collector can mean.
//
// It is only done for a pod that has the name now. A write that waited through
// an outage may be for one that was forced off this node, whose successor has
// its own status, from another node, by now.
func (a *attempt) replace(ctx context.Context) error {
	uid, err := a.client.podUID(ctx, a.want.Namespace, a.owner().Name)
	if apierrors.IsNotFound(err) || err == nil && uid != a.owner().UID {
		return errPodGone
	}
	if err != nil {
		return fmt.Errorf("ask which pod has the name: %w", err)
	}
	err = a.client.remove(ctx, a.live)
	foreign := a.live.Labels[spcv1.InternalNodeLabel] != a.want.Labels[spcv1.InternalNodeLabel]
	switch {
	case apierrors.IsConflict(err):
		return a.read(ctx)
	case apierrors.IsForbidden(err) && foreign:
		// A policy of the API server holds each plugin to what is of its own
		// node. The collector deletes this one in a moment, which is no trouble
		// that only people can mend.
		a.live = nil
		return errBeingDeleted
	case err != nil && !apierrors.IsNotFound(err):
		return err
	}
	a.live = nil
	return nil
}
