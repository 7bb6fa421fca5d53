package hardening_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/hardening"
)

const canary = "s3cr3t-canary-7f0c"

func plain(s string) *hardening.Plaintext { return hardening.NewPlaintext([]byte(s)) }

// leaks reports whether text holds the canary in any of the forms in which
// fmt or an encoder could have written it.
func leaks(text string) bool {
	forms := []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("%d", []byte(canary)), fmt.Sprintf("%#v", []byte(canary)), "czNjcjN0"}
	for _, f := range forms {
		if strings.Contains(text, f) || strings.Contains(text, strings.Trim(f, "[]")) {
			return true
		}
	}
	return false
}

func TestLeaksFindsTheCanary(t *testing.T) {
	// The control of all the tests below.
	for _, format := range []string{"%s", "%x", "%X", "%v", "%#v", "%d"} {
		if text := fmt.Sprintf(format, []byte(canary)); !leaks(text) {
			t.Errorf("leaks(%q) = false, want true", text)
		}
	}
}

func TestPlaintextPrinting(t *testing.T) {
	p := plain(canary)
	type nested struct {
		Name   string
		Secret *hardening.Plaintext
		hidden hardening.Plaintext
	}
	values := map[string]any{
		"pointer":   p,
		"value":     *p,
		"in struct": nested{Name: "n", Secret: p, hidden: *p},
		"in slice":  []*hardening.Plaintext{p},
		"in map":    map[string]*hardening.Plaintext{"k": p},
		"file":      hardening.File{Path: "f", Data: p},
	}
	for name, v := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
				for _, flags := range []string{"", "+", "#", "-", " ", "0", "10", ".3", "#20.4"} {
					format := "%" + flags + string(verb)
					if text := fmt.Sprintf(format, v); leaks(text) {
						t.Errorf("Sprintf(%q) = %q, want no secret in it", format, text)
					}
				}
			}
			if text := fmt.Sprint(v) + fmt.Sprintln(v); leaks(text) {
				t.Errorf("Sprint() = %q, want no secret in it", text)
			}
		})
	}
}

func TestPlaintextPrintsRedacted(t *testing.T) {
	p := plain(canary)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, p); got != "[redacted]" {
			t.Errorf("Sprintf(%q) = %q, want %q", format, got, "[redacted]")
		}
	}
	if p.String() != "[redacted]" || p.GoString() != "[redacted]" {
		t.Errorf("String() = %q, GoString() = %q, want both redacted", p.String(), p.GoString())
	}
}

func TestPlaintextLogging(t *testing.T) {
	p := plain(canary)
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(handler(&out))
			log.Info("m", "secret", p)
			log.Info("m", "secret", *p)
			log.With("secret", p).WithGroup("g").Info("m", slog.Any("file", hardening.File{Data: p}))
			log.Info("m", slog.Group("g", slog.Any("secret", p)))
			if leaks(out.String()) {
				t.Errorf("log = %q, want no secret in it", out.String())
			}
			if !strings.Contains(out.String(), "[redacted]") {
				t.Errorf("log = %q, want [redacted] in it", out.String())
			}
		})
	}
}

func TestPlaintextMarshalling(t *testing.T) {
	p := plain(canary)
	marshal := map[string]func(any) ([]byte, error){
		"json":   json.Marshal,
		"indent": func(v any) ([]byte, error) { return json.MarshalIndent(v, "", " ") },
		"xml":    xml.Marshal,
		"yaml":   yaml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	}
	values := map[string]any{
		"pointer":   p,
		"value":     *p,
		"in struct": struct{ Secret *hardening.Plaintext }{p},
		"file":      hardening.File{Path: "f", Data: p},
	}
	for format, f := range marshal {
		for name, v := range values {
			t.Run(format+"/"+name, func(t *testing.T) {
				b, err := f(v)
				if err == nil {
					t.Errorf("Marshal() = %q, nil, want an error", b)
				}
				if leaks(string(b)) || err != nil && leaks(err.Error()) {
					t.Errorf("Marshal() = %q, %v, want no secret in it", b, err)
				}
			})
		}
	}
}

func TestPlaintextMarshalMethods(t *testing.T) {
	p := plain(canary)
	methods := map[string]func() error{
		"MarshalJSON":   func() error { _, err := p.MarshalJSON(); return err },
		"MarshalText":   func() error { _, err := p.MarshalText(); return err },
		"MarshalBinary": func() error { _, err := p.MarshalBinary(); return err },
		"MarshalYAML":   func() error { _, err := p.MarshalYAML(); return err },
		"GobEncode":     func() error { _, err := p.GobEncode(); return err },
	}
	for name, f := range methods {
		if err := f(); !errors.Is(err, hardening.ErrMarshal) {
			t.Errorf("%s() = %v, want %v", name, err, hardening.ErrMarshal)
		}
	}
}

func TestPlaintextPanicText(t *testing.T) {
	defer func() {
		text := fmt.Sprint(recover())
		if leaks(text) || !strings.Contains(text, "[redacted]") {
			t.Errorf("panic text = %q, want [redacted] and no secret in it", text)
		}
	}()
	panic(fmt.Errorf("deliver %v of %+v", plain(canary), hardening.File{Data: plain(canary)}))
}

func TestPlaintextUse(t *testing.T) {
	p := plain(canary)
	if p.Len() != len(canary) {
		t.Errorf("Len() = %d, want %d", p.Len(), len(canary))
	}
	err := p.Use(func(b []byte) error {
		if string(b) != canary {
			t.Errorf("Use gave %d bytes, want the canary", len(b))
		}
		return nil
	})
	if err != nil {
		t.Errorf("Use() = %v, want nil", err)
	}
	stop := errors.New("stop")
	if err := p.Use(func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Use() = %v, want %v", err, stop)
	}
}

func TestPlaintextWipe(t *testing.T) {
	// Bytes behind the length are part of the slice's array too.
	backing := []byte(canary + canary)
	p := hardening.NewPlaintext(backing[:4])
	p.Wipe()
	if !bytes.Equal(backing, make([]byte, len(backing))) {
		t.Errorf("after Wipe the array holds %q, want zeros up to its capacity", backing)
	}
	p.Wipe()
	assertWiped(t, "wiped", p)
}

func TestPlaintextWithoutContent(t *testing.T) {
	var nothing *hardening.Plaintext
	assertWiped(t, "nil", nothing)
	nothing.Wipe()
	assertWiped(t, "zero", &hardening.Plaintext{})
	empty := hardening.NewPlaintext(nil)
	if err := empty.Use(func(b []byte) error {
		if len(b) != 0 {
			t.Errorf("Use gave %d bytes, want none", len(b))
		}
		return nil
	}); err != nil {
		t.Errorf("Use() of an empty value = %v, want nil", err)
	}
}

func assertWiped(t *testing.T, name string, p *hardening.Plaintext) {
	t.Helper()
	err := p.Use(func([]byte) error {
		t.Errorf("Use of %s plaintext calls its function, want an error only", name)
		return nil
	})
	if !errors.Is(err, hardening.ErrWiped) {
		t.Errorf("Use of %s plaintext = %v, want %v", name, err, hardening.ErrWiped)
	}
	if p.Len() != 0 {
		t.Errorf("Len of %s plaintext = %d, want 0", name, p.Len())
	}
}

func TestPlaintextConcurrentUse(t *testing.T) {
	// A wipe must not clear bytes that somebody is writing to a volume: that
	// would deliver a half-zeroed secret.
	p := plain(canary)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				err := p.Use(func(b []byte) error {
					if string(b) != canary {
						return errors.New("torn")
					}
					return nil
				})
				if err != nil && !errors.Is(err, hardening.ErrWiped) {
					t.Errorf("Use() = %v, want the whole value or %v", err, hardening.ErrWiped)
				}
			}
		})
	}
	wg.Go(p.Wipe)
	wg.Wait()
}
