// Package guide follows this project's documents in the node of a lab, as a
// reader with a clone would.
//
// It promises that commands run in the node, in a directory that has of a clone
// what documents name: deploy and bin/portcullis; helm and portcullis are in the
// PATH. The programs, and the images that the chart names, are the caller's to
// build and load.
package guide
