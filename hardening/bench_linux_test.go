package hardening_test

import (
	"fmt"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

// BenchmarkVolume publishes and unpublishes a volume of five files of 3 kB.
func BenchmarkVolume(b *testing.B) {
	for _, s := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		b.Run(string(s), func(b *testing.B) {
			n := newNode(b, s)
			target, _ := n.place(b, "vol")
			files := benchFiles('x')
			for b.Loop() {
				v, err := n.sys.NewVolume(grouped)
				check(b, "new", err)
				check(b, "fill", v.Fill(files))
				check(b, "attach", v.Attach(target))
				check(b, "close", v.Close())
				_, err = target.Detach()
				check(b, "detach", err)
				check(b, "prepare", target.Prepare())
			}
		})
	}
}

// BenchmarkReplace rotates such a volume, with new content and with the same.
func BenchmarkReplace(b *testing.B) {
	contents := [2][]hardening.File{benchFiles('x'), benchFiles('y')}
	for _, s := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		for name, step := range map[string]int{"changed": 1, "same": 0} {
			b.Run(string(s)+"/"+name, func(b *testing.B) {
				n := newNode(b, s)
				v, _, _ := n.publish(b, "vol", grouped, contents[0]...)
				for i := step; b.Loop(); i += step {
					changed, err := v.Replace(contents[i%2])
					if err != nil || changed != (step == 1) {
						b.Fatalf("Replace() = %v, %v, want %v, nil", changed, err, step == 1)
					}
				}
			})
		}
	}
}

func benchFiles(fill byte) []hardening.File {
	var files []hardening.File
	for i := range 5 {
		content := make([]byte, 3000)
		for j := range content {
			content[j] = fill
		}
		files = append(files, hardening.File{Path: fmt.Sprintf("file-%d", i), Mode: 0o440, Data: hardening.NewPlaintext(content)})
	}
	return files
}
