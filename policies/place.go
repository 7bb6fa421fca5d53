package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Place is where something stands in a file of a bundle. The zero Place is
// nowhere in particular.
type Place struct {
	File         string
	Line, Column int // from 1; 0: not known
}

// String returns file:line:column, as editors and CI systems read it.
func (p Place) String() string {
	switch {
	case p.File == "" || p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// FileError says what is wrong with a file of a bundle, where, and what to do.
type FileError struct {
	Place   Place
	Path    string // what it is about: "grant G-1: secrets[0]"
	Problem string
	Hint    string
	Err     error // what it was made of, or nil
}

// Error returns "place: path: problem; hint: hint".
func (e *FileError) Error() string {
	var text strings.Builder
	for _, part := range []string{e.Place.String(), e.Path} {
		if part != "" {
			text.WriteString(part + ": ")
		}
	}
	text.WriteString(e.Problem)
	if e.Hint != "" {
		text.WriteString("; hint: " + e.Hint)
	}
	return text.String()
}

// Unwrap returns what the error was made of.
func (e *FileError) Unwrap() error { return e.Err }

// maxFileErrors bounds what one attempt reports: who mends twenty mistakes tries
// again, and a hostile file must not fill a log.
const maxFileErrors = 20

// FileErrors is everything that is wrong with a bundle.
type FileErrors []*FileError

// Error returns the errors, one a line.
func (e FileErrors) Error() string {
	lines := make([]string, 0, len(e))
	for _, one := range e {
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (e FileErrors) Unwrap() []error {
	list := make([]error, 0, len(e))
	for _, one := range e {
		list = append(list, one)
	}
	return list
}

// Err returns the errors in the order of files and lines, nil if there are none.
// Beyond twenty they are only counted.
func (e FileErrors) Err() error {
	if len(e) == 0 {
		return nil
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *FileError) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Column, b.Place.Column))
	})
	if more := len(sorted) - maxFileErrors; more > 0 {
		sorted = append(sorted[:maxFileErrors:maxFileErrors], &FileError{
			Problem: fmt.Sprintf("%d more errors are not listed", more), Hint: "correct those above first",
		})
	}
	return sorted
}

// located gives errors the places that the bundle's reader noted for their
// parts. An error whose place is not known stays as it is.
func located(errs []*BundleError, places map[string]Place) error {
	if len(errs) == 0 {
		return nil
	}
	var list FileErrors
	for _, e := range errs {
		place := placeOf(e.Part, places)
		if place == (Place{}) && len(errs) == 1 {
			return e
		}
		list = append(list, &FileError{Place: place, Path: e.Part, Problem: e.Problem, Hint: e.Remedy, Err: e})
	}
	return list.Err()
}

// placeOf returns the place of a part, or of the nearest part that holds it:
// "config monitor.rules" stands in "config monitor", "waiver W-1: expiry" in
// "waiver W-1".
func placeOf(part string, places map[string]Place) Place {
	for {
		if place, ok := places[part]; ok {
			return place
		}
		cut := strings.LastIndexAny(part, ".[:")
		if cut < 0 {
			return Place{}
		}
		part = part[:cut]
	}
}

// entryPart names a grant or a waiver in an error: by its id if that is one, in
// quotes if it is not, since an error must not repeat what hides on a terminal.
func entryPart(kind, id string) string {
	if entryPattern.MatchString(id) {
		return kind + " " + id
	}
	return fmt.Sprintf("%s %q", kind, id)
}
