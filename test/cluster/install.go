package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/test/cluster/guide"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
	"github.com/portcullis-csi/portcullis/test/cluster/programs"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// The document that is followed, and how far.
const (
	document = "docs/OPERATIONS.md"
	section  = "Install with the chart"
)

func installCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "install", Short: "Install the driver and a sample into a lab, as docs/OPERATIONS.md says", Args: cobra.NoArgs,
		Long: `install loads the images of bin/images into a lab and runs the commands of
docs/OPERATIONS.md, "Install with the chart", in its node: a policy, the chart,
the local provider's secrets, the sample pod. make lab builds what it needs.`,
	}
	name := nameFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return install(c.Context(), *name) }
	return c
}

func install(ctx context.Context, name string) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	l, err := lab.Open(name)
	if err != nil {
		return err
	}
	for _, image := range []string{"portcullis-node", "portcullis-provider-local"} {
		if err := l.LoadImage(ctx, filepath.Join(root, "bin/images", image+".tar")); err != nil {
			return fmt.Errorf("%w; hint: make lab builds it", err)
		}
	}
	helm, err := exec.CommandContext(ctx, filepath.Join(root, "tools/tool.sh"), "helm", "helm").Output()
	if err != nil {
		return fmt.Errorf("build helm: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		return err
	}
	blocks, err := snippets.Extract(string(text), section)
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	dir := filepath.Join(root, "bin", "lab-"+name)
	if err := os.RemoveAll(dir); err != nil { // of an earlier lab
		return err
	}
	reader, err := guide.Reader(guide.Config{
		Lab: l, Dir: dir, Clone: root,
		Portcullis: filepath.Join(root, "bin/portcullis"), Helm: strings.TrimSpace(string(helm)),
	})
	if err != nil {
		return err
	}
	reader.Printed = os.Stdout
	for _, b := range blocks {
		if b.Kind == snippets.Run {
			fmt.Printf("\n$ %s\n", strings.ReplaceAll(strings.TrimSpace(b.Text), "\n", "\n$ "))
		}
		if err := reader.Follow(ctx, []snippets.Block{b}); err != nil {
			return fmt.Errorf("%s: %w", document, err)
		}
	}
	fmt.Printf(`
The driver is installed and the sample runs. In %[1]s is what was made for it.

  go run ./test/cluster exec%[2]s kubectl -n payments exec api -- ls -lL /secrets
  go run ./test/cluster exec%[2]s kubectl -n kube-system exec ds/csi-secrets-store -- /portcullis audit tail
  go run ./test/cluster exec%[2]s kubectl -n kube-system exec ds/csi-secrets-store -- /portcullis doctor --only node
`, dir, nameOption(name))
	return nil
}

// nameOption is what people add to commands for a lab that is not named as
// usual.
func nameOption(name string) string {
	if name == defaultName {
		return ""
	}
	return " --name " + name
}
