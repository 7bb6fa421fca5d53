package certificates_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/admission/certificates"
)

const day = 24 * time.Hour

func start() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func newReplica(t *testing.T) *certificates.Replica {
	t.Helper()
	r := certificates.NewReplica(start(), certificates.Names("portcullis-webhook", "security"))
	steps(t, r, "a new authority begins")
	return r
}

// steps does what is due and compares.
func steps(t *testing.T, r *certificates.Replica, want ...string) {
	t.Helper()
	got, err := r.Steps()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("steps at %v (-want +got):\n%s", r.Now, diff)
	}
}

func serving(t *testing.T, r *certificates.Replica) *x509.Certificate {
	t.Helper()
	c, err := r.Serving()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trusted verifies as an API server does that has this caBundle and clock.
func trusted(c *x509.Certificate, bundle []*x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	for _, b := range bundle {
		roots.AddCert(b)
	}
	_, err := c.Verify(x509.VerifyOptions{DNSName: "portcullis-webhook.security.svc", Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestFormOfTheCertificates(t *testing.T) {
	r := newReplica(t)
	c := serving(t, r)
	if err := trusted(c, r.Live, start()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"portcullis-webhook.security.svc", "portcullis-webhook.security.svc.cluster.local"}, c.DNSNames); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	ca := r.Live[0]
	for _, cert := range []*x509.Certificate{c, ca} {
		if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("key of %v is %T, want ECDSA P-256", cert.Subject, cert.PublicKey)
		}
		if behind := start().Sub(cert.NotBefore); behind != time.Hour {
			t.Errorf("%v is valid from %v ago, want an hour: clocks differ", cert.Subject, behind)
		}
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA || c.NotAfter.Sub(start()) != 7*day {
		t.Errorf("serving certificate: usage %v, CA %v, until %v", c.KeyUsage, c.IsCA, c.NotAfter)
	}
	if ca.KeyUsage != x509.KeyUsageCertSign || !ca.MaxPathLenZero || ca.NotAfter.Sub(start()) != 365*day {
		t.Errorf("authority: usage %v, path length zero %v, until %v", ca.KeyUsage, ca.MaxPathLenZero, ca.NotAfter)
	}
	if c.SerialNumber.Cmp(ca.SerialNumber) == 0 || c.SerialNumber.Sign() <= 0 {
		t.Errorf("serial numbers %v and %v", c.SerialNumber, ca.SerialNumber)
	}
}

// What an authority of the Secret signs for another name is worth nothing.
func TestAuthoritySignsForTheServiceAlone(t *testing.T) {
	r := newReplica(t)
	other := certificates.NewReplica(start(), []string{"kubernetes.default.svc"})
	other.Data = r.Data
	if err := other.Problem(); err == nil {
		t.Error("an authority of another Service is taken")
	}
	if got := r.Live[0].PermittedDNSDomains; !r.Live[0].PermittedDNSDomainsCritical || len(got) != 2 {
		t.Errorf("permitted names = %v, want two, critical", got)
	}
}

// The next authority signs only after every API server had time to see it, and
// whoever takes it out of the caBundle puts that off.
func TestNextAuthorityWaitsForTrust(t *testing.T) {
	r := newReplica(t)
	r.Now = start().Add(250 * day)
	steps(t, r, "the next authority is made", "the next authority is trusted", "the serving certificate is renewed")
	first := r.Live[:1]
	r.Now = r.Now.Add(30 * time.Minute)
	r.Live = first // a foreign hand
	steps(t, r, "the next authority is not trusted any more", "the next authority is trusted")
	r.Now = r.Now.Add(59 * time.Minute)
	steps(t, r)
	if err := trusted(serving(t, r), first, r.Now); err != nil {
		t.Errorf("before the hour is over: %v", err)
	}
	r.Now = r.Now.Add(time.Minute)
	steps(t, r, "the next authority signs from now on")
	if trusted(serving(t, r), first, r.Now) == nil || trusted(serving(t, r), r.Live, r.Now) != nil {
		t.Error("after the hour the serving certificate is not of the next authority, or not trusted")
	}
}

// Everything was off for longer than any certificate lives.
func TestAfterALongSleep(t *testing.T) {
	r := newReplica(t)
	r.Now = start().Add(30 * day)
	steps(t, r, "the serving certificate is renewed")
	r.Now = start().Add(400 * day)
	steps(t, r, "a new authority begins")
	if err := trusted(serving(t, r), r.Live, r.Now); err != nil || len(r.Live) != 1 {
		t.Errorf("after 400 days: %v, %d authorities, want one that is trusted", err, len(r.Live))
	}
	// Between two authorities.
	r.Now = r.Now.Add(300 * day)
	steps(t, r, "the next authority is made", "the next authority is trusted", "the serving certificate is renewed")
	r.Now = r.Now.Add(70 * day)
	steps(t, r, "the next authority signs from now on")
}

// A clock that was ahead made what is not valid yet.
func TestClockThatWasAhead(t *testing.T) {
	r := newReplica(t)
	before := serving(t, r)
	r.Now = start().Add(-10 * day)
	steps(t, r, "a new authority begins")
	if err := trusted(serving(t, r), r.Live, r.Now); err != nil {
		t.Error(err)
	}
	if trusted(before, r.Live, r.Now) == nil {
		t.Error("the certificate of the future is valid")
	}
}

// A Secret of which something is left begins anew only with what is not.
func TestDamagedSecret(t *testing.T) {
	valid := newReplica(t)
	other := newReplica(t)
	for name, test := range map[string]struct {
		change func(map[string][]byte)
		want   []string
		why    string
	}{
		"empty":                 {func(d map[string][]byte) { clear(d) }, []string{"a new authority begins"}, "no certificates yet"},
		"garbage":               {func(d map[string][]byte) { d["ca.crt"] = []byte("x") }, []string{"a new authority begins"}, "ca.crt holds no certificate"},
		"no key":                {func(d map[string][]byte) { delete(d, "ca.key") }, []string{"a new authority begins"}, "no ECDSA P-256 key"},
		"other key":             {func(d map[string][]byte) { d["ca.key"] = other.Data["ca.key"] }, []string{"a new authority begins"}, "another certificate's"},
		"serving for authority": {func(d map[string][]byte) { d["ca.crt"], d["ca.key"] = d["tls.crt"], d["tls.key"] }, []string{"a new authority begins"}, "not an authority"},
		"two":                   {func(d map[string][]byte) { d["ca.crt"] = append(bytes.Clone(d["ca.crt"]), d["tls.crt"]...) }, []string{"a new authority begins"}, "exactly one"},
		"key in place":          {func(d map[string][]byte) { d["ca.crt"] = d["ca.key"] }, []string{"a new authority begins"}, "holds no certificate"},
		"serving garbage":       {func(d map[string][]byte) { d["tls.crt"] = nil }, []string{"the serving certificate is renewed"}, ""},
		"serving of another":    {func(d map[string][]byte) { d["tls.crt"], d["tls.key"] = other.Data["tls.crt"], other.Data["tls.key"] }, []string{"the serving certificate is renewed"}, ""},
		"next garbage":          {func(d map[string][]byte) { d["next-ca.crt"] = []byte("x") }, nil, ""},
		"old garbage":           {func(d map[string][]byte) { d["old-ca.crt"], d["old-ca.until"] = []byte("x"), []byte("y") }, nil, ""},
		"old without an end":    {func(d map[string][]byte) { d["old-ca.crt"] = other.Data["ca.crt"] }, []string{"the old authority is not trusted any more"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t)
			r.Data, r.Live = map[string][]byte{"mine": []byte("kept")}, valid.Live
			for k, v := range valid.Data {
				r.Data[k] = bytes.Clone(v)
			}
			test.change(r.Data)
			if err := r.Problem(); (err == nil) != (test.why == "") || err != nil && !strings.Contains(err.Error(), test.why) {
				t.Errorf("problem = %v, want %q", err, test.why)
			}
			lost := test.why != ""
			steps(t, r, test.want...)
			if err := trusted(serving(t, r), r.Live, r.Now); err != nil {
				t.Error(err)
			}
			if err := trusted(serving(t, valid), r.Live, r.Now); err != nil {
				t.Errorf("what other replicas serve is not trusted: %v", err)
			}
			if name != "empty" && string(r.Data["mine"]) != "kept" {
				t.Error("a key of somebody else is gone from the Secret")
			}
			if r.Now = r.Now.Add(10 * time.Minute); lost {
				steps(t, r, "the old authority is not trusted any more")
			}
		})
	}
}
