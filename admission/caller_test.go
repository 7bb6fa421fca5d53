package admission_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// envCaller makes the test binary an API server of BenchmarkReview: a process of its
// own, so that what it costs is not counted as the webhook's.
const envCaller = "PORTCULLIS_BENCH_CALLER"

func TestMain(m *testing.M) {
	if os.Getenv(envCaller) != "" {
		if err := call(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// errand is what the caller is told first: where to send reviews, and of what.
type errand struct {
	URL  string
	CA   []byte // PEM
	Body string // a review in which "#" numbers the pod
}

// order is one thing that the caller does next: so many reviews, so many in a second.
// Those of no rate are sent one after another.
type order struct {
	N    int
	Rate float64
}

// heard is what came of one review. How long it took counts from when it was due.
type heard struct {
	Took     time.Duration
	Decision string
}

// atOnce is how many reviews of a rate may be under way, all on one connection: as
// many as the webhook takes. Whatever is late because of that counts as late.
const atOnce = 32

// call follows orders until there are no more.
func call(in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var e errand
	if err := orders.Decode(&e); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CA)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}}}
	for sent := 0; ; {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		all, err := obey(client, e, o, sent)
		if err != nil {
			return err
		}
		if err := answers.Encode(all); err != nil {
			return err
		}
		sent += o.N
	}
}

func obey(client *http.Client, e errand, o order, sent int) ([]heard, error) {
	all, failures := make([]heard, o.N), make([]error, o.N)
	begin := time.Now()
	one := func(i int, due time.Time) {
		all[i].Decision, failures[i] = ask(client, e.URL, strings.ReplaceAll(e.Body, "#", strconv.Itoa(sent+i)))
		all[i].Took = time.Since(due)
	}
	var under sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i := range o.N {
		if o.Rate == 0 {
			one(i, time.Now())
			continue
		}
		due := begin.Add(time.Duration(float64(i) / o.Rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		turns <- struct{}{}
		under.Go(func() {
			one(i, due)
			<-turns
		})
	}
	under.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err // the others say the same
		}
	}
	return all, nil
}

func ask(client *http.Client, url, body string) (decision string, err error) {
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var got struct {
		Response struct {
			Allowed          bool
			AuditAnnotations map[string]string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return "", fmt.Errorf("answer %.500s: %w", text, err)
	}
	if !got.Response.Allowed {
		return "", fmt.Errorf("review not allowed: %.500s", text)
	}
	return got.Response.AuditAnnotations["decision-id"], nil
}

// caller is the process that was started.
type caller struct {
	process   *exec.Cmd
	orders    io.WriteCloser
	answers   *json.Decoder
	complaint bytes.Buffer
}

func newCaller(b *testing.B, e errand) *caller {
	b.Helper()
	c := &caller{process: exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0])}
	c.process.Env, c.process.Stderr = append(os.Environ(), envCaller+"=1"), &c.complaint
	out, err := c.process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	c.answers = json.NewDecoder(bufio.NewReader(out))
	if c.orders, err = c.process.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := c.process.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(c.orders.Close(), c.process.Wait()); err != nil {
			b.Errorf("the caller ended with %v: %s", err, &c.complaint)
		}
	})
	if err := json.NewEncoder(c.orders).Encode(e); err != nil {
		b.Fatal(err)
	}
	return c
}

// send has reviews sent and returns what came of each.
func (c *caller) send(b *testing.B, o order) []heard {
	b.Helper()
	var all []heard
	if err := json.NewEncoder(c.orders).Encode(o); err != nil {
		b.Fatal(err)
	}
	if err := c.answers.Decode(&all); err != nil || len(all) != o.N {
		_ = c.process.Process.Kill()
		b.Fatalf("%d of %d reviews were answered: %v", len(all), o.N, err)
	}
	return all
}
