// Package podstatustest is an API server for tests: as much of one as status
// objects and events need, over HTTP, with a memory of every request. It does
// what the real one does with resource versions, preconditions, selectors and
// pages, and no more.
package podstatustest
