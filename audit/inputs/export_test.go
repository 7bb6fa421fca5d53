package inputs

import "bytes"

// Heads returns where things lie in a file with these bytes.
func Heads(b []byte) (from, to []int64, err error) {
	err = heads(bytes.NewReader(b), int64(len(b)), func(h head, at int64) {
		from, to = append(from, at), append(to, at+int64(h.length))
	})
	return from, to, err
}

// What tests put at the beginning of a file.
const (
	FirstLine    = firstLine
	SetAsideName = setAsideName
)
