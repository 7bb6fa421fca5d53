package inputs

import "bytes"

// Heads counts the records of a file with these bytes.
func Heads(b []byte) (n int, err error) {
	err = heads(bytes.NewReader(b), int64(len(b)), func(head, int64) { n++ })
	return n, err
}

// What tests put at the beginning of a file.
const (
	FirstLine    = firstLine
	SetAsideName = setAsideName
)
