package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// Write packs the chart in a directory into <name>-<version>.tgz in another,
// and returns its path and SHA-256.
func Write(chart, dir string) (file, digest string, err error) {
	loaded, err := loader.LoadDir(chart)
	if err != nil {
		return "", "", fmt.Errorf("load chart: %w", err)
	}
	if err := loaded.Validate(); err != nil {
		return "", "", fmt.Errorf("chart %s: %w", chart, err)
	}
	if loaded.Metadata.Dependencies != nil {
		return "", "", errors.New("the chart has dependencies, which would have to be vendored and verified first")
	}
	text, err := Bytes(loaded.Name(), loaded.Raw)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, fmt.Sprintf("%s-%s.tgz", loaded.Name(), loaded.Metadata.Version))
	sum := sha256.Sum256(text)
	return file, hex.EncodeToString(sum[:]), os.WriteFile(file, text, 0o644)
}

// Bytes returns the archive of the files, below a directory of the chart's name.
func Bytes(name string, files []*common.File) ([]byte, error) {
	// Chart.yaml first: that is where Helm looks for what it has.
	files = slices.SortedFunc(slices.Values(files), func(a, b *common.File) int {
		return strings.Compare(rank(a), rank(b))
	})
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	out := tar.NewWriter(zip)
	for _, f := range files {
		header := &tar.Header{Name: path.Join(name, f.Name), Mode: 0o644, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := out.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
		if _, err := out.Write(f.Data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func rank(f *common.File) string {
	if f.Name == "Chart.yaml" {
		return "0"
	}
	return "1" + f.Name
}
