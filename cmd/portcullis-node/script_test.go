package main_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// isolated runs the tests where what they mount is theirs alone.
type isolated struct{ m *testing.M }

func (i isolated) Run() int { return plugintest.Main(i.m) }

func TestMain(m *testing.M) {
	testscript.Main(isolated{m}, map[string]func(){
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
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"await": await, "build": build, "candidate": candidate, "events": events, "gone": gone, "hangup": hangup, "hold": hold, "keys": keys, "kubelet": kubelet, "mode": mode, "privileges": privileges, "publish": publish, "snapshot": snapshot, "unreachable": unreachable, "volume": volume, "unmount": unmount},
		RequireUniqueNames: true,
	})
}

// kubelet registers the plugin as kubelet does: kubelet REGISTRATION-SOCKET.
func kubelet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kubelet REGISTRATION-SOCKET")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dial := func(path string) *grpc.ClientConn {
		cc, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		ts.Check(err)
		ts.Defer(func() { cc.Close() })
		return cc
	}
	registrar := registerapi.NewRegistrationClient(dial(ts.MkAbs(args[0])))
	info, err := registrar.GetInfo(ctx, &registerapi.InfoRequest{})
	ts.Check(err)
	node, err := csi.NewNodeClient(dial(info.GetEndpoint())).NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	ts.Check(err)
	_, err = registrar.NotifyRegistrationStatus(ctx, &registerapi.RegistrationStatus{PluginRegistered: true})
	ts.Check(err)
	ts.Logf("registered %s of node %s", info.GetName(), node.GetNodeId())
}

// hangup sends SIGHUP to what runs in the background: hangup.
func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: hangup")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

// hold connects to a unix socket and says nothing, for as long as a file is there:
// hold SOCKET FILE.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hold SOCKET FILE")
	}
	conn, err := net.Dial("unix", ts.MkAbs(args[0])) //nolint:noctx // it is there
	ts.Check(err)
	file := ts.MkAbs(args[1])
	go func() {
		defer conn.Close()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Lstat(file); err != nil {
				return
			}
		}
	}()
}

// mode compares the mode of a file: mode FILE MODE.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE MODE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().String(); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
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

// gone asks until nobody answers: gone URL.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone URL")
	}
	client := http.Client{Timeout: time.Second}
	for end := time.Now().Add(20 * time.Second); strings.HasPrefix(ask(&client, args[0]), "200"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s still answers", args[0])
		}
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
