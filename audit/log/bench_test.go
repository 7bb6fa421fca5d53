package log_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// BenchmarkAppend appends events of a kilobyte, each on the disk and in the tree
// before it is acknowledged, against lines in a file with one fdatasync for all
// that wait: what proof costs.
func BenchmarkAppend(b *testing.B) {
	for _, producers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(producers), func(b *testing.B) {
			c := config(b)
			c.Clock, c.Boundary, c.CheckpointEvery = nil, boundaries(time.Now), time.Second
			l := open(b, c)
			text := []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}`)
			lines := newLines(b)
			plain := produce(b, producers, lines.append)
			b.ResetTimer()
			took := produce(b, producers, func() error {
				_, err := l.Append(b.Context(), text)
				return err
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/took.Seconds(), "events/s")
			b.ReportMetric(float64(b.N)/plain.Seconds(), "jsonl-events/s")
			b.ReportMetric(took.Seconds()/plain.Seconds(), "x-jsonl")
		})
	}
}

// produce calls add b.N times, from so many at once.
func produce(b *testing.B, producers int, add func() error) time.Duration {
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	var group sync.WaitGroup
	begin := time.Now()
	for range producers {
		group.Go(func() {
			for range work {
				if err := add(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	return time.Since(begin)
}

// lines is a log without proof: a file of lines, with group commit.
type lines struct {
	f        *os.File
	text     []byte
	requests chan chan error
}

func newLines(b *testing.B) *lines {
	f, err := os.Create(filepath.Join(b.TempDir(), "events.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	s := &lines{f, []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}` + "\n"), make(chan chan error, 256)}
	go s.write()
	b.Cleanup(func() {
		close(s.requests)
		f.Close()
	})
	return s
}

func (s *lines) append() error {
	done := make(chan error, 1)
	s.requests <- done
	return <-done
}

func (s *lines) write() {
	for first := range s.requests {
		waiting := []chan error{first}
		for more := true; more && len(waiting) < 256; {
			select {
			case done, ok := <-s.requests:
				if more = ok; ok {
					waiting = append(waiting, done)
				}
			default:
				more = false
			}
		}
		var err error
		for range waiting {
			if _, e := s.f.Write(s.text); e != nil {
				err = e
			}
		}
		if err == nil {
			err = syscall.Fdatasync(int(s.f.Fd()))
		}
		for _, done := range waiting {
			done <- err
		}
	}
}

// BenchmarkVerify reads an epoch of 50 MB, as a start does too.
func BenchmarkVerify(b *testing.B) {
	c := config(b)
	l := open(b, c)
	const n = 40_000
	for i := 0; i < n; i += 250 {
		fill(b, l, i, 250)
	}
	closeLog(b, l)
	var r auditlog.Report
	for b.Loop() {
		r = verified(b, c.Dir)
	}
	b.ReportMetric(float64(r.Events), "events")
}
