// Package metricdocs holds the tables of metrics in docs/OPERATIONS.md to the
// instruments that the code makes.
package metricdocs
