package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// checkText refuses characters that a reviewer does not see. Some end a line
// for a reader of YAML and not for an editor (U+0085, U+2028, a carriage
// return alone), so that a grant can stand in what looks like a comment;
// others show text in another order than it has (CVE-2021-42574).
func checkText(text []byte) error {
	line := 1
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			return fmt.Errorf("line %d: text is not UTF-8", line)
		case r == '\n':
			line++
		case r == '\t', r == '\r' && bytes.HasPrefix(text[i+1:], []byte("\n")):
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return fmt.Errorf("line %d: character %U cannot be seen; hint: remove it, or write it as an escape in quotes", line, r)
		}
		i += size
	}
	return nil
}

// checkUnique refuses JSON that has a key twice in one object: encoding/json
// takes the last, and others the first. The text is one valid value.
func checkUnique(text []byte) error {
	err := checkKeys(json.NewDecoder(bytes.NewReader(text)))
	if errors.Is(err, io.EOF) {
		return errors.New("text ends too early")
	}
	return err
}

func checkKeys(d *json.Decoder) error {
	token, err := d.Token()
	open, compound := token.(json.Delim)
	if err != nil || !compound {
		return err
	}
	seen := map[any]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			if seen[key] {
				return fmt.Errorf("key %q is written twice", key)
			}
			seen[key] = true
		}
		if err := checkKeys(d); err != nil {
			return err
		}
	}
	_, err = d.Token() // what closes it
	return err
}
