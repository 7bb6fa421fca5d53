package main_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"portcullis-node": func() { os.Exit(node.Run(os.Args[1:])) },
	})
}

// TestScripts plays the user stories of testdata/script. The condition
// insecure holds in builds with that tag; make test runs both.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(name string) (bool, error) {
			switch name {
			case "insecure":
				return node.InsecureBuild, nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, nil
		},
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"HEALTH", "METRICS"} {
				l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(name, l.Addr().String())
				if err := l.Close(); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"await": await},
		RequireUniqueNames: true,
	})
}

// await asks until the answer matches: await URL STATUS REGEXP.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: await URL STATUS REGEXP")
	}
	want := regexp.MustCompile(args[2])
	client := http.Client{Timeout: time.Second}
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := ask(&client, args[0])
		if status, text, _ := strings.Cut(got, "\n"); status == args[1] && want.MatchString(text) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s answers %q, want %s and %q", args[0], got, args[1], args[2])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func ask(client *http.Client, url string) string {
	resp, err := client.Get(url) //nolint:noctx // the client has a timeout
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return strconv.Itoa(resp.StatusCode) + "\n" + string(body)
}
