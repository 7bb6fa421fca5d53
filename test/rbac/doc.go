// Package rbac holds no code, only tests of deploy/chart/files: that the
// definitions are upstream's, that the plugin's account is under upstream's
// names and has no right that the plugin does not use, and, with the tag
// integration, that a real API server lets that account do each of these things
// and nothing else. There is nothing to do first.
package rbac
