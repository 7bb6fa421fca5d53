package hardening_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestErrorTexts(t *testing.T) {
	hostile := "\x1b]0;owned\a" + strings.Repeat("long", 1000) + "\n"
	first := errors.New("resource busy")
	tests := []struct {
		name string
		err  error
		want string // a part
	}{
		{"path", &hardening.PathError{Path: "../x", Reason: "r", Remedy: "h"}, `file "../x": r; hint: h`},
		{"hostile path", &hardening.PathError{Path: hostile}, `\x1b]0;owned\a`},
		{"limit", &hardening.LimitError{Field: "files", Got: 65, Max: 64, Remedy: "h"}, "files: 65 is outside 1 to 64; hint: h"},
		{"target", &hardening.TargetError{Field: "pod uid", Value: "x", Reason: "r"}, `pod uid "x": r`},
		{"hostile target", &hardening.TargetError{Field: "pod uid", Value: hostile}, `\x1b]0;owned\a`},
		{"socket", &hardening.SocketError{Path: "/run/s", Reason: "r", Remedy: "h"}, `socket "/run/s": r; hint: h`},
		{"hostile socket", &hardening.SocketError{Path: hostile}, `\x1b]0;owned\a`},
		{"config", &hardening.ConfigError{Field: "--f", Reason: "r", Remedy: "h"}, "--f: r; hint: h"},
		{"scrub", &hardening.ScrubError{Count: 2, First: first}, "scrub: 2 entries not removed, first: resource busy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.err.Error()
			if !strings.Contains(got, tt.want) {
				t.Errorf("Error() = %q, want %q in it", got, tt.want)
			}
			// Texts end in pod events, which kubectl prints raw.
			if !printable(got) || len(got) > 700 {
				t.Errorf("Error() = %q (%d bytes), want at most 700 printable bytes", got, len(got))
			}
		})
	}
	if !errors.Is(&hardening.ScrubError{First: first}, first) {
		t.Errorf("ScrubError does not unwrap to its first reason")
	}
	if !errors.Is(hardening.ErrUnsupported, errors.ErrUnsupported) {
		t.Errorf("ErrUnsupported is not errors.ErrUnsupported")
	}
}
