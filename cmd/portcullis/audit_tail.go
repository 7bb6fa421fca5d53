package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/tail"
)

// tailOptions are the flags of portcullis audit tail.
type tailOptions struct {
	socket socketFlag
	file   string
	key    string
	follow bool
	last   int
	since  string
	utc    bool
	filter tail.Filter
	output output
}

func tailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail [-f] [-n 10] [--namespace NS] [--pod POD] [--type TYPE] [--outcome OUTCOME] [--since 2h]",
		Short: "Show the last events of a node's log",
		Long: `tail shows the last events of the log on this node, one a line: when, what, how
it went, for which pod, and what says why. It asks the plugin, so run it as root
on the node; --file reads a copy, or the directory of a plugin that is stopped.

  portcullis audit tail -f
  portcullis audit tail -n 0 --since 2h --outcome denied --namespace payments
  portcullis audit tail --file /evidence/node-1/audit --output json

The last column is the place of the event, for portcullis audit prove, and the
decision is for portcullis audit input. --output json writes the stored events
themselves, one a line. What comes from a running plugin is as it says; whether the
log is whole and unaltered, portcullis audit verify tells.

Exit code 0: shown. 1: not readable, or with --file altered. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return &usageError{err}
			}
			if o.file != "" {
				return tailFile(cmd.Context(), o)
			}
			return hinted(tailSocket(cmd.Context(), o))
		},
	}
	o.add(cmd)
	return cmd
}

func (o *tailOptions) add(cmd *cobra.Command) {
	o.socket.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "directory or file of a log that nobody writes to, instead of --socket")
	f.StringVar(&o.key, "key", "", "with --file: public key of the node's log (default: node.vkey beside it)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with the events that come")
	f.IntVarP(&o.last, "lines", "n", 10, "how many events, of those that match; 0 is all")
	f.StringVar(&o.since, "since", "", "only events from this time on: 2h, or 2026-03-01T12:00:00Z")
	f.BoolVar(&o.utc, "utc", false, "show times in UTC instead of this machine's zone")
	f.StringVar(&o.filter.Namespace, "namespace", "", "only events about pods of this namespace")
	f.StringVar(&o.filter.Pod, "pod", "", "only events about pods of this name")
	f.StringVar(&o.filter.Decision, "decision", "", "only events of the decision with this id")
	f.StringSliceVar(&o.filter.Types, "type", nil, "comma separated types of event, such as secret.mount")
	f.StringSliceVar(&o.filter.Outcomes, "outcome", nil, "comma separated outcomes: success, failure, denied, unknown")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(tail.Types(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions(tail.Outcomes(), cobra.ShellCompDirectiveNoFileComp))
	addOutput(cmd, &o.output)
}

func (o *tailOptions) check(cmd *cobra.Command) (err error) {
	switch {
	case o.last < 0:
		return fmt.Errorf("--lines %d is negative", o.last)
	case o.follow && o.file != "":
		return errors.New("--follow needs a plugin that runs: nobody writes to what --file names")
	case o.key != "" && o.file == "":
		return errors.New("--key is for --file: the plugin vouches for its own log")
	}
	if o.since != "" {
		if o.filter.Since, err = tail.ParseSince(o.since, time.Now()); err != nil {
			return fmt.Errorf("--since %w", err)
		}
	}
	return errors.Join(refuseBoth(cmd, o.file), o.filter.Check())
}

// show writes one entry.
func (o *tailOptions) show(e tail.Entry) (err error) {
	if o.output.form == outputJSON {
		_, err = fmt.Fprintf(o.output.out, "%s\n", tail.Printable(e.Leaf))
		return err
	}
	zone := time.Local
	if o.utc {
		zone = time.UTC
	}
	_, err = io.WriteString(o.output.out, tail.Line(e, zone)+"\n")
	return err
}

func tailSocket(ctx context.Context, o tailOptions) error {
	client := o.socket.client()
	next, err := tail.Last(ctx, client, tail.Want{Last: o.last, Filter: o.filter, Show: o.show})
	if err != nil || !o.follow {
		return err
	}
	err = client.Follow(ctx, next, func(at admin.Position, leaf []byte) error {
		if e := tail.Read(at, leaf); o.filter.Matches(e) {
			return o.show(e)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // interrupted, which is how it ends
	}
	return err
}

// tailFile shows what can be read even if the log turns out to be altered, and
// says so at the end.
func tailFile(ctx context.Context, o tailOptions) error {
	in, err := (&logOptions{file: o.file, key: o.key}).read()
	if err != nil {
		return err
	}
	ring := tail.NewRing(tail.Want{Last: o.last, Filter: o.filter, Show: o.show})
	_, err = auditlog.Verify(ctx, auditlog.VerifyConfig{
		Path: o.file, VKey: in.vkey,
		Each: func(at auditlog.Position, leaf []byte) error { return ring.Add(at, leaf) },
	})
	if e := ring.Show(); e != nil {
		return e
	}
	return hinted(err)
}
