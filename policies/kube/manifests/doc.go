// Package manifests reads the Kubernetes objects that a decision needs from a
// directory of YAML or JSON files, for development without an API server.
//
// It promises what an API server would do with such files: fields are matched
// exactly and unknown ones refused, an object exists once, and a change is
// seen by the next call. It makes nothing up: an object that no file holds is
// not found. The one exception is the CSIDriver object, for which there is a
// stand-in.
//
// It does not promise that anybody admitted these objects, and so nothing here
// is evidence: whoever writes the directory decides who is who. The caller
// must say so loudly; the node plugin links this package only in builds with
// the tag insecure.
package manifests
