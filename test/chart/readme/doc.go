// Package readme writes the chart's README from what the chart says of itself:
// Chart.yaml, and the comments of values.yaml that begin with "# --", which
// helm-docs reads too.
//
// It promises that no value is left out: one without a comment is an error.
package readme
