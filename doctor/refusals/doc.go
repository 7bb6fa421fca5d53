// Package refusals says of a pod what the chart's admission policies would refuse
// in it, if every one of them denied.
//
// It promises the answers of the CEL in deploy/chart/templates: an integration test
// gives both the same pods. It knows what a pod says and nothing else, as the API
// server does: not what is behind a path of the node. It asks nobody, and there is
// nothing to do first.
package refusals
