// Package cluster gathers what doctor judges of a cluster.
//
// It promises to change nothing: it reads, and asks for access reviews, which the
// API server does not keep. It never asks for Secrets or ConfigMaps. Of pods it
// drops environment variables and annotations on arrival. Errors repeat no text
// of the API server, and nothing waits for longer than the context that it is given.
//
// What the account may not read is doctor.ErrForbidden in its place, and the rest
// is gathered all the same.
package cluster
