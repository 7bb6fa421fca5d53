package bundle

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-csi/portcullis/policies"
)

// checkText refuses characters that a reviewer does not see. Some end a line
// for a reader of YAML and not for an editor (U+0085, U+2028, a carriage
// return alone), so that a grant can stand in what looks like a comment;
// others show text in another order than it has (CVE-2021-42574).
func checkText(file string, text []byte) error {
	line, start := 1, 0
	for i := 0; i < len(text); {
		if c := text[i]; c >= ' ' && c < 0x7f { // nearly all of a bundle
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		at := policies.Place{File: file, Line: line, Column: i - start + 1}
		switch {
		case r == utf8.RuneError && size <= 1:
			return policies.FileErrors{{Place: at, Problem: "text is not UTF-8", Hint: "save the file as UTF-8"}}
		case r == '\n':
			line, start = line+1, i+1
		case r == '\t', r == '\r' && bytes.HasPrefix(text[i+1:], []byte("\n")):
		case hidden(r):
			return policies.FileErrors{{
				Place: at, Problem: fmt.Sprintf("character %U cannot be seen", r), Hint: "remove it, or write it as an escape in quotes",
			}}
		}
		i += size
	}
	return nil
}

// hidden reports whether a character shows as nothing, or as something else.
func hidden(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
