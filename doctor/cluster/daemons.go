package cluster

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

const (
	daemonTimeout = 5 * time.Second
	daemonsAtOnce = 16
	metricsPort   = 8095
	maxPage       = 4 << 20 // ours have some 20 KiB
	ofPolicy      = "portcullis_policy_"
)

// daemonPod is a pod that a daemon runs in.
type daemonPod struct {
	daemon doctor.Daemon
	port   int32
}

// daemons asks the plugins and webhooks of the namespace for their metrics, through
// the API server: it reaches pods where whoever runs doctor does not.
func daemons(ctx context.Context, api *client, c Config) doctor.Asked[[]doctor.Daemon] {
	found := list(ctx, api, question{
		path:  "/api/v1/namespaces/" + url.PathEscape(c.Namespace) + "/pods",
		query: url.Values{"labelSelector": {"app in (secrets-store-csi-driver,portcullis-webhook)"}},
	}, runs)
	if found.Err != nil {
		return doctor.Asked[[]doctor.Daemon]{Err: found.Err}
	}
	all := make([]doctor.Daemon, len(found.Value))
	var asked sync.WaitGroup
	slots := make(chan struct{}, daemonsAtOnce)
	for i, p := range found.Value {
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			all[i] = api.inForce(ctx, c.Namespace, p)
		})
	}
	asked.Wait()
	return doctor.Asked[[]doctor.Daemon]{Value: all}
}

// runs keeps pods of ours that run: what the others lack is said elsewhere.
func runs(p *corev1.Pod) (daemonPod, bool) {
	if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
		return daemonPod{}, false
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		webhook := strings.Contains(c.Image, "portcullis-webhook")
		if !webhook && !strings.Contains(c.Image, "portcullis-node") {
			continue
		}
		port := int32(metricsPort)
		for _, one := range c.Ports {
			if one.Name == "metrics" {
				port = one.ContainerPort
			}
		}
		return daemonPod{doctor.Daemon{Name: p.Name, Node: p.Spec.NodeName, Webhook: webhook, Image: c.Image}, port}, true
	}
	return daemonPod{}, false
}

// inForce asks one daemon.
func (c *client) inForce(ctx context.Context, namespace string, p daemonPod) doctor.Daemon {
	ctx, stop := context.WithTimeout(ctx, daemonTimeout)
	defer stop()
	d := p.daemon
	text, err := c.ask(ctx, question{
		path:   "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods/" + url.PathEscape(d.Name) + ":" + strconv.Itoa(int(p.port)) + "/proxy/metrics",
		accept: "text/plain", most: maxPage,
	})
	if err == nil {
		err = policyOf(&d, string(text))
	}
	if err != nil {
		d = p.daemon
		d.Err = err
	}
	return d
}

// errNoMetrics is about an answer that no daemon of ours gives.
var errNoMetrics = errors.New("its answer is not that of a plugin or webhook; hint: kubectl port-forward shows what serves its port metrics")

// policyOf reads what a page of metrics says of policy.
func policyOf(d *doctor.Daemon, page string) error {
	var p doctor.InForce
	var c doctor.Candidate
	infos, known, shadow := 0, false, false
	for line := range strings.Lines(page) {
		name, ours := strings.CutPrefix(line[:strings.IndexAny(line+" ", "{ ")], ofPolicy)
		if !ours || !slices.Contains(wantedMetrics(), name) {
			continue
		}
		s, err := sampleOf(strings.TrimRight(line, "\r\n"))
		if err != nil {
			return err
		}
		switch name {
		case "bundle_info":
			infos++
			p.Digest, p.Origin = s.labels["digest"], s.labels["origin"]
			if p.Serial, err = strconv.ParseInt(s.labels["serial"], 10, 64); err != nil || !digestForm().MatchString(p.Digest) {
				return errNoMetrics
			}
		case "bundle_age_seconds":
			p.Age = time.Duration(s.value) * time.Second
		case "bundle_not_after_seconds":
			p.NotAfter = time.Unix(s.value, 0).UTC()
		case "break_glass":
			known, p.BreakGlass = true, s.value == 1
		case "shadow_serial":
			shadow, c.Serial = true, s.value
		case "shadow_evaluations_total":
			c.Compared += s.value
			if result := s.labels["result"]; result == "flip" || result == "panic" {
				c.Flips += s.value
			}
		}
	}
	if !known || infos > 1 { // every daemon says whether there is an emergency
		return errNoMetrics
	}
	if infos == 1 {
		d.Policy = &p
	}
	if shadow {
		d.Candidate = &c
	}
	return nil
}

// wantedMetrics are read, without what they all begin with.
func wantedMetrics() []string {
	return []string{"bundle_info", "bundle_age_seconds", "bundle_not_after_seconds", "break_glass", "shadow_serial", "shadow_evaluations_total"}
}

func digestForm() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) }

// sample is one line of a page of metrics.
type sample struct {
	labels map[string]string
	value  int64
}

// maxValue is what times and counts do not reach, and durations can hold.
const maxValue = 1e9 * 9

// sampleOf reads a line in the text format of Prometheus: NAME{LABEL="VALUE",...} VALUE.
func sampleOf(line string) (sample, error) {
	s := sample{labels: map[string]string{}}
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return sample{}, errNoMetrics
	}
	line = line[end:]
	if rest, labelled := strings.CutPrefix(line, "{"); labelled {
		for line = rest; !strings.HasPrefix(line, "}"); {
			name, after, ok := strings.Cut(line, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !ok || err != nil || !strings.HasPrefix(quoted, `"`) {
				return sample{}, errNoMetrics
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return sample{}, errNoMetrics
			}
			s.labels[name] = text
			line = strings.TrimPrefix(after[len(quoted):], ",")
		}
		line = line[1:]
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(line, " "), " ") // a time may follow
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value >= -maxValue && value <= maxValue) {
		return sample{}, errNoMetrics
	}
	s.value = int64(value)
	return s, nil
}
