package snippets

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what becomes of a block.
type Kind string

// The kinds of block.
const (
	File   Kind = "file"
	Append Kind = "append"
	Run    Kind = "run"
	Output Kind = "output"
	Sample Kind = "sample"
)

// Block is one fenced block.
type Block struct {
	Line     int // of the fence
	Section  string
	Language string
	Kind     Kind
	Name     string // path, or what the sample is of
	Exit     int    // of Run
	Root     bool   // needs root
	Cluster  bool   // needs a cluster
	// Within is how long Run is repeated until it ends, and prints, as it should; 0
	// is once.
	Within time.Duration
	Text   string
}

var fence = regexp.MustCompile("^```(\\S*)\\s*(.*)$")

// Extract returns the blocks of a Markdown document in their order, or an error
// that names the line of a block that says nothing of itself. Where sections are
// named, it is their blocks alone, and those of others need say nothing.
func Extract(document string, sections ...string) ([]Block, error) {
	var blocks []Block
	var open *Block
	section := ""
	for i, line := range strings.Split(document, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			b, err := begin(i+1, m[1], m[2])
			if err != nil && wanted(section, sections) {
				return nil, err
			}
			b.Section = section
			open = &b
		case open == nil && strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		case open != nil && line == "```":
			if wanted(section, sections) {
				blocks = append(blocks, *open)
			}
			open = nil
		case open != nil:
			open.Text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block has no end", open.Line)
	}
	return blocks, nil
}

func wanted(section string, sections []string) bool {
	return len(sections) == 0 || slices.Contains(sections, section)
}

func begin(line int, language, info string) (Block, error) {
	b := Block{Line: line, Language: language}
	for _, word := range strings.Fields(info) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "root":
			b.Root = true
		case "cluster":
			b.Cluster = true
		case "exit":
			b.Exit, err = strconv.Atoi(value)
		case "within":
			b.Within, err = time.ParseDuration(value)
		default:
			b.Kind, b.Name = Kind(key), value
		}
		if err != nil {
			return b, fmt.Errorf("line %d: %s is %q: %w", line, key, value, err)
		}
	}
	if b.Within != 0 && (b.Kind != Run || b.Within < 0) {
		return b, fmt.Errorf("line %d: within is for what is run, and is positive", line)
	}
	switch b.Kind {
	case File, Append, Sample:
		if b.Name == "" {
			return b, fmt.Errorf("line %d: %s needs a name", line, b.Kind)
		}
	case Run, Output:
	default:
		return b, fmt.Errorf("line %d: the block says neither file, append, run, output nor sample", line)
	}
	return b, nil
}

// Matches reports whether output is what a document shows: a line that is ...
// stands for any number of lines, ... within a line for any text.
func Matches(shown, output string) bool {
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for line := range strings.Lines(shown) {
		if strings.TrimSpace(line) == "..." {
			pattern.WriteString(`(?s:.*?)`)
			continue
		}
		parts := strings.Split(strings.TrimRight(line, " \n"), "...")
		for i, p := range parts {
			parts[i] = regexp.QuoteMeta(p)
		}
		pattern.WriteString(strings.Join(parts, `.*`) + ` *\n`)
	}
	pattern.WriteString(`\z`)
	if output != "" && !strings.HasSuffix(output, "\n") {
		output += "\n"
	}
	return regexp.MustCompile(pattern.String()).MatchString(output)
}
