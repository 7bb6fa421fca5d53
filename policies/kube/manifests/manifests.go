package manifests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

// Directory reads objects from files. Its methods may be called at the same
// time; the objects they return are the caller's own.
type Directory struct {
	root   *os.Root
	decode decoder

	mu      sync.Mutex
	seen    []file // what objects were decoded from
	objects *objects
}

// Open opens a directory and checks that every manifest in it can be read.
func Open(dir string) (*Directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open manifests: %w", err)
	}
	d := &Directory{root: root, decode: newDecoder()}
	if _, err := d.load(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// Close releases the directory.
func (d *Directory) Close() error { return d.root.Close() }

// Pod returns a pod, or an error that is kube.ErrNotFound. Files are always
// read anew, so which UID is expected makes no difference.
func (d *Directory) Pod(ctx context.Context, namespace, name, _ string) (*corev1.Pod, error) {
	return get[*corev1.Pod](ctx, d, key{"Pod", namespace, name})
}

// Namespace returns a namespace, or an error that is kube.ErrNotFound.
func (d *Directory) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return get[*corev1.Namespace](ctx, d, key{"Namespace", "", name})
}

// ServiceAccount returns a service account, or an error that is kube.ErrNotFound.
func (d *Directory) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return get[*corev1.ServiceAccount](ctx, d, key{"ServiceAccount", namespace, name})
}

// Class returns a SecretProviderClass, or an error that is kube.ErrNotFound.
func (d *Directory) Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error) {
	return get[*spcv1.SecretProviderClass](ctx, d, key{"SecretProviderClass", namespace, name})
}

// CSIDriver returns the one CSIDriver object of the directory. Without one it is
// a stand-in for development, without a name, that has podInfoOnMount and no
// tokenRequests: whoever plays kubelet there is believed, and brings no tokens.
func (d *Directory) CSIDriver(ctx context.Context) (*storagev1.CSIDriver, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := d.load()
	if err != nil {
		return nil, err
	}
	var found *storagev1.CSIDriver
	for _, o := range all.byKey {
		object, ok := o.(*storagev1.CSIDriver)
		if ok && found != nil {
			return nil, errors.New("there is more than one CSIDriver: keep the one of this driver")
		}
		if ok {
			found = object
		}
	}
	if found == nil {
		return &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{PodInfoOnMount: new(true)}}, nil
	}
	return found.DeepCopy(), nil
}

// PodExists reports whether a pod has this UID.
func (d *Directory) PodExists(ctx context.Context, uid string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	all, err := d.load()
	if err != nil {
		return false, err
	}
	for k, o := range all.byKey {
		if k.kind == "Pod" && string(o.GetUID()) == uid {
			return true, nil
		}
	}
	return false, nil
}

func get[T object](ctx context.Context, d *Directory, k key) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	all, err := d.load()
	if err != nil {
		return none, err
	}
	found, ok := all.byKey[k].(T)
	if !ok {
		return none, fmt.Errorf("%s %q in namespace %q: %w", k.kind, k.name, k.namespace, kube.ErrNotFound)
	}
	own, ok := found.DeepCopyObject().(T)
	if !ok {
		return none, fmt.Errorf("copy %s %q: unexpected type", k.kind, k.name)
	}
	return own, nil
}

// load reads every file and decodes them again if any byte is another one.
func (d *Directory) load() (*objects, error) {
	files, err := readFiles(d.root)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.objects != nil && equal(d.seen, files) {
		return d.objects, nil
	}
	all, err := d.decode.all(files)
	if err != nil {
		return nil, err
	}
	d.seen, d.objects = files, all
	return all, nil
}
