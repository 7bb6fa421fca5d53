// Command pack makes the archive of the chart that helm install takes, with the
// same bytes from the same files: helm package writes the time into it.
//
//	go run ./pack CHART-DIRECTORY OUTPUT-DIRECTORY
//
// It prints the digest and the path. Files that .helmignore names are left out,
// as by Helm.
package main

import (
	"fmt"
	"os"

	"github.com/portcullis-csi/portcullis/test/chart/pack/archive"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack CHART-DIRECTORY OUTPUT-DIRECTORY")
		os.Exit(2)
	}
	path, digest, err := archive.Write(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "pack: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("sha256:%s  %s\n", digest, path)
}
