package podstatustest

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		s.fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	limit, begin := int(^uint(0)>>1), 0
	if text := r.URL.Query().Get("limit"); text != "" {
		limit, _ = strconv.Atoi(text)
	}
	if text := r.URL.Query().Get("continue"); text != "" {
		begin, _ = strconv.Atoi(text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []spcv1.SecretProviderClassPodStatus
	for _, o := range s.objects {
		if selector.Matches(labels.Set(o.Labels)) {
			found = append(found, *o)
		}
	}
	slices.SortFunc(found, func(a, b spcv1.SecretProviderClassPodStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	page := &spcv1.SecretProviderClassPodStatusList{Items: found[begin:min(begin+limit, len(found))]}
	page.APIVersion, page.Kind = spcv1.GroupName+"/v1", "SecretProviderClassPodStatusList"
	if begin+limit < len(found) {
		page.Continue = strconv.Itoa(begin + limit)
	}
	s.reply(w, http.StatusOK, page)
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	o := &spcv1.SecretProviderClassPodStatus{}
	if !s.read(w, r, o) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}]; ok {
		s.fail(w, apierrors.NewAlreadyExists(resource(), o.Name))
		return
	}
	s.store(o)
	s.reply(w, http.StatusCreated, o)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key(r)]
	if !ok {
		s.fail(w, apierrors.NewNotFound(resource(), key(r).Name))
		return
	}
	s.reply(w, http.StatusOK, o)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	o := &spcv1.SecretProviderClassPodStatus{}
	if !s.read(w, r, o) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	live, ok := s.objects[key(r)]
	switch {
	case !ok:
		s.fail(w, apierrors.NewNotFound(resource(), o.Name))
		return
	case o.ResourceVersion != live.ResourceVersion, o.UID != live.UID:
		s.fail(w, apierrors.NewConflict(resource(), o.Name, errors.New("the object has been modified")))
		return
	}
	s.store(o)
	s.reply(w, http.StatusOK, o)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	options := &metav1.DeleteOptions{}
	if !s.read(w, r, options) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	live, ok := s.objects[key(r)]
	if !ok {
		s.fail(w, apierrors.NewNotFound(resource(), key(r).Name))
		return
	}
	if p := options.Preconditions; p != nil && (p.UID != nil && *p.UID != live.UID || p.ResourceVersion != nil && *p.ResourceVersion != live.ResourceVersion) {
		s.fail(w, apierrors.NewConflict(resource(), live.Name, errors.New("the preconditions do not hold")))
		return
	}
	if len(live.Finalizers) > 0 {
		now := metav1.Now()
		live.DeletionTimestamp = &now
	} else {
		delete(s.objects, key(r))
	}
	s.reply(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
}

func (s *Server) pod(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid, ok := s.pods[key(r)]
	if !ok {
		s.fail(w, apierrors.NewNotFound(corev1.Resource("pods"), key(r).Name))
		return
	}
	pod := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: key(r).Namespace, Name: key(r).Name, UID: types.UID(uid)}}
	pod.APIVersion, pod.Kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	s.reply(w, http.StatusOK, pod)
}

func (s *Server) createEvent(w http.ResponseWriter, r *http.Request) {
	e := &corev1.Event{}
	if !s.read(w, r, e) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.APIVersion, e.Kind = "v1", "Event"
	s.events = append(s.events, *e)
	s.reply(w, http.StatusCreated, e)
}

// patchEvent knows the one patch that a recorder sends.
func (s *Server) patchEvent(w http.ResponseWriter, r *http.Request) {
	var patch struct {
		Count         int32       `json:"count"`
		LastTimestamp metav1.Time `json:"lastTimestamp"`
		Message       string      `json:"message"`
	}
	if !s.read(w, r, &patch) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.events {
		e := &s.events[i]
		if e.Name == key(r).Name && e.Namespace == key(r).Namespace {
			e.Count, e.LastTimestamp = patch.Count, patch.LastTimestamp
			s.reply(w, http.StatusOK, e)
			return
		}
	}
	s.fail(w, apierrors.NewNotFound(corev1.Resource("events"), key(r).Name))
}
