package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/proof"
)

// checkProofOptions are the flags of portcullis audit check-proof.
type checkProofOptions struct {
	logOptions
	output output
}

func checkProofCommand() *cobra.Command {
	var o checkProofOptions
	cmd := &cobra.Command{
		Use:   "check-proof FILE|- --key node.vkey [--checkpoint FILE]",
		Short: "Check evidence of one event",
		Long: `check-proof reads what portcullis audit prove wrote, from a file or from standard
input, and says whether that event was in the log that the node signed, at that
place. It needs no log, only the node's public key from a source that you trust: a
key that comes with the evidence proves nothing.

  portcullis audit check-proof evidence.json --key kept/node.vkey

With --checkpoint, evidence is refused that is not against one of those
checkpoints. Without, it may be of a log that was made anew with the node's key.

Exit code 0: proved. 1: not proved or not readable. 2: wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("give one file with evidence, or - for standard input")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkProofMain(o, args[0], cmd.InOrStdin())
		},
	}
	o.addKey(cmd, "required")
	addOutput(cmd, &o.output)
	return cmd
}

func checkProofMain(o checkProofOptions, name string, stdin io.Reader) error {
	if o.key == "" {
		return &usageError{errors.New("--key is missing")}
	}
	in, err := o.readInputs(o.key)
	if err != nil {
		return err
	}
	var evidence []byte
	if name == "-" {
		evidence, err = readSmall(stdin, "standard input")
	} else {
		evidence, err = readSmallFile(name)
	}
	if err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	checked, err := proof.Check(evidence, in.vkey, in.known...)
	if err != nil {
		return hinted(err)
	}
	return o.output.print(jsonChecked(checked), func(w io.Writer) { printChecked(w, checked) })
}

func printChecked(w io.Writer, c proof.Checked) {
	fmt.Fprintf(w, "OK: event %v is in the log of %s, of which the node signed %d events\n", c.At, c.Origin, c.Size)
	fmt.Fprintf(w, "  root         %s, by %d hashes\n", hex.EncodeToString(c.Root[:]), c.Hashes)
	if c.Known {
		fmt.Fprintln(w, "  checkpoint   one that was kept elsewhere")
	} else {
		fmt.Fprintln(w, "  note         without --checkpoint, a log made anew with the node's key would pass")
	}
	fmt.Fprintf(w, "%s\n", printable(c.Event))
}

// printable indents a JSON text, and writes as an escape what a terminal could
// take for a command or hide: inside of JSON strings, where alone it can stand,
// that is the same text.
func printable(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return fmt.Sprintf("%q", text)
	}
	var clean strings.Builder
	for _, r := range b.String() {
		switch {
		case r == '\n' || r == ' ' || unicode.IsGraphic(r) && r != '\u00a0':
			clean.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&clean, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&clean, `\u%04x`, r)
		}
	}
	return clean.String()
}

// checkedReport is the form of --output json: for machines, and stable.
type checkedReport struct {
	Origin string            `json:"origin"`
	At     auditlog.Position `json:"at"`
	Size   int64             `json:"size"` // events that the node signed
	Root   string            `json:"root"` // hexadecimal
	Known  bool              `json:"known"`
	Event  string            `json:"event"` // byte for byte
}

func jsonChecked(c proof.Checked) checkedReport {
	return checkedReport{Origin: c.Origin, At: c.At, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Known: c.Known, Event: string(c.Event)}
}
