package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/audit/tail"
	"github.com/portcullis-csi/portcullis/policies"
)

var (
	decisionPattern = regexp.MustCompile(`^[A-Z2-7]{26}$`)
	inputPattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	bundlePattern   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// inputOptions are the flags of portcullis audit input.
type inputOptions struct {
	socket socketFlag
	file   string
	key    string
	all    bool
	bundle string
	since  string
	after  time.Time
	output output
}

func inputCommand() *cobra.Command {
	var o inputOptions
	cmd := &cobra.Command{
		Use:   "input DECISION-ID | SHA256 | --all [--since 24h] | --bundle DIGEST",
		Short: "Show what policy saw when it decided",
		Long: `input shows the input of a recorded decision, as policy saw it: by the id of the
decision, which every event and every refusal has, or by its SHA-256. The node
keeps inputs for a while, the oldest go first, and they never leave it. An input
holds no secret, only names.

  portcullis audit input MZXW6YTBOI4TKNZSGU3DGOJQGE
  portcullis audit input --all --since 24h > decisions.ndjson
  portcullis audit input --bundle sha256:9f86d081... > bundle.tar.gz

--all writes every recorded decision as a line of JSON, with its input where that
is kept: what portcullis policy diff, eval and learn read. --bundle writes the
bundle that decided.

Exit code 0: shown. 1: refused or failed. 2: wrong usage. 3: it is not kept.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(refuseBoth(cmd, o.file), o.check(args)); err != nil {
				return &usageError{err}
			}
			return o.run(cmd.Context(), args, cmd.ErrOrStderr())
		},
	}
	o.socket.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "instead of --socket: the --state-dir/audit of a plugin that is stopped, or a copy of it, with audit-inputs beside it")
	f.StringVar(&o.key, "key", "", "with --file: public key of the node's log (default: node.vkey beside it)")
	f.BoolVar(&o.all, "all", false, "every recorded decision, one a line")
	f.StringVar(&o.bundle, "bundle", "", "the bundle with this digest, as tar.gz")
	f.StringVar(&o.since, "since", "", "with --all: only decisions from this time on: 24h, or 2026-03-01T12:00:00Z")
	addOutput(cmd, &o.output)
	return cmd
}

func (o *inputOptions) check(args []string) (err error) {
	asked := len(args)
	if o.all {
		asked++
	}
	if o.bundle != "" {
		asked++
	}
	switch {
	case asked != 1:
		return errors.New("name one of: a decision, a SHA-256, --all, --bundle")
	case o.bundle != "" && !bundlePattern.MatchString(o.bundle):
		return fmt.Errorf("--bundle %+q is no digest: it is sha256: and 64 hexadecimal digits", o.bundle)
	case len(args) == 1 && !decisionPattern.MatchString(args[0]) && !inputPattern.MatchString(args[0]):
		return fmt.Errorf("%+q is neither the id of a decision (26 capital letters and digits) nor a SHA-256 (64 hexadecimal digits)", args[0])
	case o.since != "" && !o.all:
		return errors.New("--since is for --all")
	case o.since != "":
		if o.after, err = tail.ParseSince(o.since, time.Now()); err != nil {
			return fmt.Errorf("--since %w", err)
		}
	}
	return nil
}

func (o *inputOptions) run(ctx context.Context, args []string, notes io.Writer) error {
	source, err := o.source()
	switch {
	case err != nil:
	case o.all:
		err = o.everything(ctx, source, notes)
	case o.bundle != "":
		err = o.writeBundle(ctx, source)
	case inputPattern.MatchString(args[0]):
		err = o.one(ctx, source, args[0], 0)
	default:
		err = o.ofDecision(ctx, source, args[0])
	}
	if errors.Is(err, admin.ErrNotKept) {
		fmt.Fprintln(notes, "portcullis: it is not kept, any more or at all")
		return errAnswerIsNo
	}
	return hinted(err)
}

func (o *inputOptions) source() (recordedSource, error) {
	if o.file == "" {
		return askedInputs{o.socket.client()}, nil
	}
	return openFileInputs(logOptions{file: o.file, key: o.key})
}

// everything writes all recorded decisions, and says how many are without
// their input.
func (o *inputOptions) everything(ctx context.Context, source recordedSource, notes io.Writer) error {
	all, gone := 0, 0
	e := json.NewEncoder(printableWriter{o.output.out})
	e.SetEscapeHTML(false)
	err := source.Recorded(ctx, func(r policies.Recorded) error {
		if r.Time.Before(o.after) {
			return nil
		}
		all++
		if len(r.Input) == 0 {
			gone++
		}
		return e.Encode(r)
	})
	if err == nil && gone > 0 {
		fmt.Fprintf(notes, "portcullis: of %d of %d decisions the input is not kept any more\n", gone, all)
	}
	return err
}

// printableWriter passes on what a JSON encoder writes. Labels and annotations
// are other people's text.
type printableWriter struct{ w io.Writer }

// Write writes whole lines.
func (p printableWriter) Write(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if _, err := p.w.Write(append(bytes.Clone(tail.Printable(bytes.TrimSuffix(line, []byte("\n")))), '\n')); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

func (o *inputOptions) writeBundle(ctx context.Context, source recordedSource) error {
	archive, err := source.Bundle(ctx, o.bundle)
	if err != nil {
		return err
	}
	_, err = o.output.out.Write(archive)
	return err
}

// ofDecision looks for the last event of the decision, which names its input.
func (o *inputOptions) ofDecision(ctx context.Context, source recordedSource, id string) error {
	var sha string
	var nowNS int64
	w := tail.Want{Last: 1, Filter: tail.Filter{Decision: id}, Show: func(e tail.Entry) error {
		sha, nowNS = e.Event.Policy.InputSHA256, e.Event.Policy.NowNS
		return nil
	}}
	if err := source.lastOf(ctx, w); err != nil {
		return err
	}
	if !inputPattern.MatchString(sha) {
		return fmt.Errorf("no event in the log of this node names decision %s with an input; hint: ask the node that decided, or the webhook's log", id)
	}
	return o.one(ctx, source, sha, nowNS)
}

// one shows an input, if it is the one that was asked for: at the time of the
// decision where that is known, else as it is kept, without one.
func (o *inputOptions) one(ctx context.Context, source recordedSource, sha string, nowNS int64) error {
	text, err := source.Input(ctx, sha)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != sha {
		return errors.New("the input that the plugin sent is another than the one that was recorded; hint: look for damage of the node's disk")
	}
	if nowNS == 0 {
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
		_, err = printableWriter{o.output.out}.Write(append(b.Bytes(), '\n'))
		return err
	}
	in, err := policies.ReadInput(text, nowNS)
	if err != nil {
		return err
	}
	e := json.NewEncoder(printableWriter{o.output.out})
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(in)
}
