package server

// What a review may become when it is read: `[{},{},` is three bytes each, and a
// thousand as a list of containers.
const (
	maxWeight = 6 << 20

	weightName      = 96   // of a field or of an entry of a map
	weightElement   = 320  // of a list; of the others a volume is the largest
	weightContainer = 1024 // of a list of containers or of claims; a test compares these with the types
)

// weigh returns about how much memory what a JSON text describes would take, beside
// its strings. It reads any bytes, and judges none of them: that is the decoder's.
func weigh(text []byte) (weight int) {
	var open []byte     // what is open, the outermost first: '{', '[', or 'c' for a list of containers
	containers := false // the last name was one of such a list
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			end := endOfString(text, i+1)
			if named(text, end) {
				containers = listsContainers(text[i+1 : min(end, len(text))])
				weight += weightName
			}
			i = end
		case '{':
			open, containers = append(open, c), false
		case '[':
			if containers {
				c = 'c'
			}
			open, containers = append(open, c), false
			weight += weightOf(open) // of its first element
		case '}', ']':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case ',':
			weight += weightOf(open)
		}
	}
	return weight
}

// endOfString returns the position of the quote that ends a string, or that after
// the text.
func endOfString(text []byte, i int) int {
	for ; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return min(i, len(text))
}

// named reports whether the string that ends there is the name of a field.
func named(text []byte, end int) bool {
	for i := end + 1; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n':
		default:
			return text[i] == ':'
		}
	}
	return false
}

// listsContainers reports whether a name is that of a list of containers. One with
// an escape in it may be.
func listsContainers(name []byte) bool {
	switch string(name) {
	case "containers", "initContainers", "ephemeralContainers", "volumeClaimTemplates":
		return true
	}
	for _, c := range name {
		if c == '\\' {
			return true
		}
	}
	return false
}

// weightOf is that of one more element of what was opened last.
func weightOf(open []byte) int {
	if len(open) == 0 {
		return 0
	}
	switch open[len(open)-1] {
	case '[':
		return weightElement
	case 'c':
		return weightContainer
	default:
		return 0 // names are counted
	}
}
