package bundle

import (
	"errors"
	"fmt"

	"github.com/portcullis-csi/portcullis/policies"
)

// collector gathers everything that is wrong with a bundle, so that its author
// mends it in one go, and where the parts of it stand.
type collector struct {
	errs   policies.FileErrors
	places map[string]policies.Place
}

// maxCollected bounds the errors that are kept for sorting: a hostile bundle has
// as many as it has bytes.
const maxCollected = 1000

func (c *collector) add(e *policies.FileError) {
	if len(c.errs) < maxCollected {
		c.errs = append(c.errs, e)
	}
}

func (c *collector) place(part string, p policies.Place) {
	if p == (policies.Place{}) {
		return
	}
	if c.places == nil {
		c.places = map[string]policies.Place{}
	}
	c.places[part] = p
}

// entry is one grant or waiver, and how to find a field of it.
type entry[T any] struct {
	value T
	where func(path string) policies.Place
}

// entriesOf are entries that come from no file.
func entriesOf[T any](values []T) []entry[T] {
	entries := make([]entry[T], 0, len(values))
	for _, v := range values {
		entries = append(entries, entry[T]{v, func(string) policies.Place { return policies.Place{} }})
	}
	return entries
}

// reporter returns what takes the faults of one entry.
func (c *collector) reporter(kind, id string, where func(string) policies.Place) report {
	return func(path, problem, hint string) {
		part := fmt.Sprintf("%s %q", kind, clip(id))
		if idPattern.MatchString(id) {
			part = kind + " " + id
		}
		if path != "" {
			part += ": " + printable(path)
		}
		c.add(&policies.FileError{Place: where(path), Path: part, Problem: problem, Hint: hint})
	}
}

// unique refuses an id that an entry before has.
func (c *collector) unique(seen map[string]policies.Place, id string, where func(string) policies.Place, add report) {
	first, twice := seen[id]
	if !twice {
		seen[id] = where("id")
		return
	}
	hint := "give each an id of its own"
	if first != (policies.Place{}) {
		hint += ", the other one is at " + first.String()
	}
	add("id", "is used twice", hint)
}

// printable keeps a path as it is unless a key in it would not show as written.
func printable(path string) string {
	if isText(path) {
		return path
	}
	return fmt.Sprintf("%q", clip(path))
}

// addAll takes over what a reader of one file found.
func (c *collector) addAll(file string, err error) {
	list, ok := errors.AsType[policies.FileErrors](err)
	if !ok {
		list = policies.FileErrors{{Place: policies.Place{File: file}, Problem: err.Error(), Err: err}}
	}
	for _, e := range list {
		c.add(e)
	}
}
