package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	pageSize = 100 // whose metadata fits into maxObjectBytes even if each has much of it
	maxPages = 50
)

// PodExists reports whether a pod of this UID is on this node. It asks the API
// server and no cache, and for the latest state (a list without a
// resourceVersion); no answer is an error, never false. The pod that stands in
// the API server for a static pod has another UID and names that of kubelet.
func (r *Reader) PodExists(ctx context.Context, uid string) (bool, error) {
	if uid == "" {
		return false, errors.New("look for a pod: the UID is empty")
	}
	if r.c.ClusterWide {
		return false, errors.New("look for a pod: the reader is of no node")
	}
	query := url.Values{"fieldSelector": {onNode(r.c.Node)}, "limit": {strconv.Itoa(pageSize)}}
	invalid := &UnavailableError{Object: "pods of this node", Reason: InvalidAnswer, Code: http.StatusOK}
	s := podKind.served()
	for range maxPages {
		body, err := r.get(ctx, question{
			object: invalid.Object, path: s.root + "/" + s.resource, query: query, accept: acceptList, limit: maxObjectBytes,
		})
		if err != nil {
			return false, err
		}
		decoded, _, err := r.decoder.Decode(body, nil, nil)
		list, ok := decoded.(*metav1.PartialObjectMetadataList)
		if err != nil || !ok || list.ResourceVersion == "" {
			return false, invalid
		}
		for i := range list.Items {
			pod := &list.Items[i]
			if pod.UID == "" {
				return false, invalid
			}
			if string(pod.UID) == uid || pod.Annotations[corev1.MirrorPodAnnotationKey] == uid {
				return true, nil
			}
		}
		if list.Continue == "" {
			return false, nil
		}
		query.Set("continue", list.Continue)
	}
	return false, invalid
}
