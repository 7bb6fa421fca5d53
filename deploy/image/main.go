package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout) //nolint:forbidigo // main reads the environment
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1) //nolint:forbidigo // main exits
	}
}

// options are the flags.
type options struct {
	source, out, version string
	repository, push     string
	platforms, images    []string
	insecure             bool
	pushInsecure         bool
	release              bool
}

func parse(args []string, w io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&o.source, "source", ".", "clone to build from, or a directory in it")
	f.StringVar(&o.out, "out", "", "directory for the tarballs (default bin/images of the clone)")
	f.StringVar(&o.version, "version", "", "tag of the images (default: appVersion of deploy/chart/Chart.yaml)")
	f.StringVar(&o.repository, "repository", "ghcr.io/portcullis-csi", "registry and path that the references begin with")
	f.StringVar(&o.push, "push", "", "registry and path to push to; credentials are those of docker login")
	f.Func("platform", "os/arch to build for; may be repeated (default linux/amd64 and linux/arm64)", appendTo(&o.platforms))
	f.Func("image", "image to build; may be repeated (default all)", appendTo(&o.images))
	f.BoolVar(&o.insecure, "insecure", false, "make the development builds, which may use unsigned policy; images are named so")
	f.BoolVar(&o.pushInsecure, "push-insecure", false, "push development builds all the same")
	f.BoolVar(&o.release, "release", false, "refuse anything but an unchanged commit with the tag v<version>")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("parse arguments: unexpected %q; hint: see --help", f.Arg(0))
	}
	if o.push != "" && o.insecure && !o.pushInsecure {
		return o, errors.New("push development builds: refused, since they accept unsigned policy and a registry is where clusters take images from; hint: --push-insecure, to a registry of your own")
	}
	if o.release && o.insecure {
		return o, errors.New("release development builds: refused; hint: leave --insecure out")
	}
	return o, nil
}

func appendTo(list *[]string) func(string) error {
	return func(value string) error {
		*list = append(*list, value)
		return nil
	}
}

// run builds what the arguments ask for and says what it made.
func run(ctx context.Context, args []string, epoch string, w io.Writer) error {
	o, err := parse(args, w)
	if err != nil {
		return err
	}
	source, err := compile.Open(ctx, o.source, epoch)
	if err != nil {
		return err
	}
	if err := o.complete(&source); err != nil {
		return err
	}
	if err := o.checkPublishable(ctx, source); err != nil {
		return err
	}
	if runtime.Version() != source.Toolchain {
		say(w, "image: layers are compressed by %s, so digests may differ from those of %s, which go.mod names; hint: GOTOOLCHAIN=%s\n",
			runtime.Version(), source.Toolchain, source.Toolchain)
	}
	b, err := newBuilder(source, o)
	if err != nil {
		return err
	}
	return b.run(ctx, w)
}

// complete fills in what the tree knows.
func (o *options) complete(source *compile.Source) error {
	if o.out == "" {
		o.out = filepath.Join(source.Root, "bin", "images")
	}
	if o.version == "" {
		name := filepath.Join(source.Root, "deploy", "chart", "Chart.yaml")
		text, err := os.ReadFile(name) //nolint:gosec // of the clone
		if err != nil {
			return fmt.Errorf("find version: %w; hint: --version", err)
		}
		var chart struct {
			AppVersion string `yaml:"appVersion"`
		}
		if err := yaml.Unmarshal(text, &chart); err != nil {
			return fmt.Errorf("find version in %s: %w", name, err)
		}
		o.version = chart.AppVersion
	}
	return source.SetVersion(o.version)
}

// checkPublishable refuses to publish what nobody could build again.
func (o *options) checkPublishable(ctx context.Context, source compile.Source) error {
	if o.insecure || o.push == "" && !o.release {
		return nil
	}
	if source.Modified || source.Revision == "" {
		return fmt.Errorf("publish images: refused, since %s is not an unchanged commit, so nobody could build them again; hint: commit or remove what git status shows", source.Root)
	}
	if !o.release {
		return nil
	}
	tagged, err := source.Tagged(ctx, "v"+o.version)
	if err == nil && !tagged {
		err = fmt.Errorf("release %s: refused, since commit %s has no tag v%s; hint: appVersion of the chart and the tag must agree", o.version, source.Revision, o.version)
	}
	return err
}

// say writes for whoever looks; that nobody does is no reason to stop.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}
