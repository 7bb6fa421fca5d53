// Package archive writes a chart as one file, as helm package does, but the same
// files make the same bytes: entries are sorted and have no time and no owner.
package archive
