package driver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	nodeName   = "node-1"
	volume     = "secrets"
	apiUID     = "11111111-1111-4111-8111-111111111111"
	accountUID = "44444444-4444-4444-8444-444444444444"
	canary     = "canary-8b1f0c9e-never-to-be-printed"
)

// grants lets payments/api have the two objects of class db.
const grants = `
- id: G-1
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/payments/*"]
`

// objects are the manifests that every fixture starts with.
const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: payments}
---
apiVersion: v1
kind: ServiceAccount
metadata: {uid: 44444444-4444-4444-8444-444444444444, name: api, namespace: payments}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db, namespace: payments}
spec:
  provider: local
  parameters:
    objects: |
      - objectName: payments/password
        objectAlias: password
      - objectName: payments/user
        objectAlias: user
`

// pod describes a pod and its one volume.
type pod struct {
	namespace, name, uid, serviceAccount string
	fsGroup                              string // "" for none
	attributes                           map[string]string
	tokens                               map[string]string // by audience, as kubelet hands them over
}

func apiPod() pod {
	return pod{"payments", "api-0", apiUID, "api", "2000", map[string]string{"secretProviderClass": "db"}, nil}
}

func (p pod) manifest() string {
	security := "{}"
	if p.fsGroup != "" {
		security = "{fsGroup: " + p.fsGroup + "}"
	}
	attributes, _ := json.Marshal(p.attributes)
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, uid: %s}
spec:
  nodeName: %s
  serviceAccountName: %s
  securityContext: %s
  containers: [{name: main, image: registry.example/main:1}]
  volumes:
    - name: %s
      csi: {driver: %s, readOnly: true, volumeAttributes: %s}
`, p.name, p.namespace, p.uid, nodeName, p.serviceAccount, security, volume, driverName, attributes)
}

// memoryLog keeps leaves in memory; broken makes it refuse everything.
type memoryLog struct {
	mu     sync.Mutex
	leaves [][]byte
	broken atomic.Bool
}

func (l *memoryLog) Append(_ context.Context, leaf []byte) (int64, error) {
	if l.broken.Load() {
		return 0, errors.New("disk is full")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaves = append(l.leaves, leaf)
	return int64(len(l.leaves) - 1), nil
}

func (l *memoryLog) AppendReserved(ctx context.Context, leaf []byte) (int64, error) {
	return l.Append(ctx, leaf)
}

func (l *memoryLog) Healthy() error { return nil }

// policy is a source whose engine a test can change.
type policy struct {
	engine atomic.Pointer[policies.Engine]
}

func (p *policy) Active() *policies.Engine { return p.engine.Load() }

// clock is the wall clock, moved by an offset.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// setup is what a test can choose about its node.
type setup struct {
	provider   providertest.Config
	grants     string
	policy     []policiestest.Option
	rotation   driver.Rotation
	protection hardening.Setting
	maxVolume  int64
	maxNode    int64
	recorder   func(driver.Recorder) driver.Recorder
	deliverer  func(*provider.Config)
	events     audit.Appender // absent: a memoryLog
	stateDir   string         // of volumes.db; absent: a new one
	owed       int            // events that the recorder keeps in memory; absent: its default
	linger     time.Duration  // of old generations
	keys       *tokenIssuer   // absent: a new one
	configure  func(*driver.Config)
}

// node is a whole node plugin on real sockets and real mounts, with the test
// as its kubelet.
type node struct {
	t        testing.TB
	root     string           // kubelet's
	manifest string           // directory
	conn     *grpc.ClientConn // kubelet's
	csi      csi.NodeClient
	identity csi.IdentityClient
	driver   *driver.Driver
	volumes  *hardening.System
	provider *providertest.Provider
	policy   *policy
	log      *memoryLog
	recorder *audit.Recorder
	metrics  *sdkmetric.ManualReader
	clock    *clock
	stderr   *lockedBuffer // what the plugin logged
	records  *driver.Records
	issuer   *tokenIssuer
}

// lockedBuffer takes log lines from many goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func secretFiles() map[string]string {
	return map[string]string{"password": canary, "user": "app"}
}

func newNode(t testing.TB, change ...func(*setup)) *node {
	t.Helper()
	hardeningtest.NeedRoot(t)
	s := setup{
		provider: providertest.Config{Handler: providertest.Files(secretFiles())}, grants: grants,
		rotation: driver.Rotation{Enabled: true, Interval: time.Minute}, protection: hardening.SettingAuto,
		maxVolume: 1 << 20, maxNode: 128 << 20, linger: time.Nanosecond,
	}
	for _, f := range change {
		f(&s)
	}
	n := &node{t: t, root: t.TempDir(), manifest: t.TempDir(), policy: &policy{}, log: &memoryLog{}, clock: &clock{}, stderr: &lockedBuffer{}}
	if err := os.Mkdir(filepath.Join(n.root, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	n.write("objects.yaml", objects)
	n.add(apiPod())
	n.policy.engine.Store(policiestest.Engine(t, s.grants, s.policy...))
	n.provider = providertest.Start(t, s.provider)
	n.build(s)
	n.serve()
	return n
}

func (n *node) build(s setup) {
	n.t.Helper()
	logger := slog.New(slog.NewTextHandler(n.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if n.volumes, err = hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: s.protection, Linger: s.linger}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.closed(n.volumes.Close()) })
	facts, err := manifests.Open(n.manifest)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.closed(facts.Close()) })
	n.issuer = s.keys
	if n.issuer == nil {
		n.issuer = newTokenIssuer(n.t)
	}
	keys, err := identity.NewKeys(identity.KeysConfig{Source: n.issuer})
	if err != nil {
		n.t.Fatal(err)
	}
	// Tokens are of the real time, whatever the driver's clock says.
	verifier, err := identity.New(identity.Config{Cluster: facts, Node: nodeName, DriverName: driverName, Keys: keys})
	if err != nil {
		n.t.Fatal(err)
	}
	delivery := provider.Config{Dirs: []string{n.provider.Dir}, Logger: logger}
	if s.deliverer != nil {
		s.deliverer(&delivery)
	}
	deliverer, err := provider.New(delivery)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(deliverer.Close)
	var appender audit.Appender = n.log
	if s.events != nil {
		appender = s.events
	}
	n.recorder, err = audit.New(audit.Config{
		Log: appender, Logger: logger, Source: audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: nodeName},
		QueueLimit: s.owed,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.closed(n.recorder.Close(context.Background())) })
	if s.stateDir == "" {
		s.stateDir = n.t.TempDir()
	}
	if n.records, err = driver.OpenRecords(s.stateDir, logger); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.closed(n.records.Close()) })
	var recorder driver.Recorder = n.recorder
	if s.recorder != nil {
		recorder = s.recorder(recorder)
	}
	n.metrics = sdkmetric.NewManualReader()
	config := driver.Config{
		DriverName: driverName, Version: "test", Node: nodeName, Cluster: "test", KubeletRoot: n.root, Volumes: n.volumes,
		Verifier: verifier, Classes: facts, Pods: facts, Policy: n.policy, Recorder: recorder, Deliverer: deliverer, Records: n.records,
		Meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(n.metrics)).Meter(driver.MeterScope),
		Logger: logger, Clock: n.clock.now, Rotation: s.rotation, MaxVolumeBytes: s.maxVolume, MaxNodeBytes: s.maxNode,
	}
	if s.configure != nil {
		s.configure(&config)
	}
	if n.driver, err = driver.New(config); err != nil {
		n.t.Fatal(err)
	}
}

// serve puts the driver on a socket and connects to it.
func (n *node) serve() {
	n.t.Helper()
	socket := filepath.Join(n.t.TempDir(), "csi.sock")
	l, err := hardening.Listen(n.t.Context(), socket)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	d := n.driver // a restart puts another there
	go func() { served <- d.Serve(ctx, l) }()
	n.t.Cleanup(func() {
		stop()
		n.closed(<-served)
	})
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.closed(conn.Close()) })
	n.conn = conn
	n.csi, n.identity = csi.NewNodeClient(conn), csi.NewIdentityClient(conn)
}

func (n *node) closed(err error) {
	if err != nil {
		n.t.Errorf("close: %v", err)
	}
}

func (n *node) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.manifest, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// add creates a pod in the cluster, and what kubelet makes for its volume.
func (n *node) add(p pod) {
	n.t.Helper()
	n.write("pod-"+p.uid+".yaml", p.manifest())
	hardeningtest.VolumeDir(n.t, n.root, p.uid, volume)
}

func (n *node) target(p pod) string {
	return filepath.Join(n.root, "pods", p.uid, "volumes", "kubernetes.io~csi", volume, "mount")
}

// request is the call that kubelet would make for a pod.
func (n *node) request(p pod) *csi.NodePublishVolumeRequest {
	attributes := maps.Clone(p.attributes)
	maps.Copy(attributes, map[string]string{
		"csi.storage.k8s.io/pod.name": p.name, "csi.storage.k8s.io/pod.namespace": p.namespace, "csi.storage.k8s.io/pod.uid": p.uid,
		"csi.storage.k8s.io/serviceAccount.name": p.serviceAccount, "csi.storage.k8s.io/ephemeral": "true",
	})
	return &csi.NodePublishVolumeRequest{
		Secrets:  kubeletTokens(p.tokens),
		VolumeId: "csi-" + p.uid, TargetPath: n.target(p), Readonly: true, VolumeContext: attributes,
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: p.fsGroup}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	}
}

func (n *node) publish(p pod) error {
	_, err := n.csi.NodePublishVolume(n.t.Context(), n.request(p))
	return err
}

func (n *node) unpublish(p pod) error {
	_, err := n.csi.NodeUnpublishVolume(n.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-" + p.uid, TargetPath: n.target(p)})
	return err
}

func (n *node) mustPublish(p pod) {
	n.t.Helper()
	if err := n.publish(p); err != nil {
		n.t.Fatalf("NodePublishVolume(%s) = %v, want nil", p.name, err)
	}
}

func (n *node) mustUnpublish(p pod) {
	n.t.Helper()
	if err := n.unpublish(p); err != nil {
		n.t.Fatalf("NodeUnpublishVolume(%s) = %v, want nil", p.name, err)
	}
}

// events waits for at least so many events and returns all of them: what is
// owed is appended behind the calls.
func (n *node) events(least int) []audit.Event {
	n.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		events := n.recorded()
		if len(events) >= least {
			return events
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("events = %s, want at least %d", summary(events), least)
		}
		time.Sleep(time.Millisecond)
	}
}

func (n *node) recorded() []audit.Event {
	n.t.Helper()
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	var events []audit.Event
	for _, leaf := range n.log.leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			n.t.Fatal(err)
		}
		events = append(events, e)
	}
	// In the order in which they happened: what is owed is appended behind the
	// calls, and may come after what a later call recorded.
	slices.SortStableFunc(events, func(a, b audit.Event) int { return a.Time.Compare(b.Time) })
	return events
}

// summary is each event's code, stage and reason.
func summary(events []audit.Event) string {
	var words []string
	for _, e := range events {
		words = append(words, strings.TrimRight(fmt.Sprintf("%s %s %s", e.Code, e.Stage, e.Reason), " "))
	}
	return strings.Join(words, ", ")
}

// expectEvents compares the summaries of all events so far.
func (n *node) expectEvents(want ...string) []audit.Event {
	n.t.Helper()
	events := n.events(len(want))
	if got := summary(events); got != strings.Join(want, ", ") {
		n.t.Errorf("events = %s\nwant     %s", got, strings.Join(want, ", "))
	}
	return events
}

// mountLines returns the lines of the mount table at a point.
func mountLines(t testing.TB, point string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == point {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// content reads the volume of a pod by path, without the hidden entries.
func (n *node) content(p pod) map[string]string {
	n.t.Helper()
	entries, err := os.ReadDir(n.target(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		n.t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(n.target(p), e.Name()))
		if err != nil {
			n.t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
