// Package mlog stands in for monis.app/mlog v0.0.2, the upstream driver's module
// for log formats, which the Go module proxy does not serve. It has what the
// driver calls, and logs through klog as before. Nothing else of the driver is
// replaced.
package mlog

import (
	"context"

	"k8s.io/klog/v2"
)

// LogFormat is the form of log lines.
type LogFormat string

// The forms that the driver knows. Both are text here.
const (
	FormatText LogFormat = "text"
	FormatJSON LogFormat = "json"
)

// Setup returns what is to be called at the end.
func Setup() func() { return klog.Flush }

// ValidateAndSetKlogLevelAndFormatGlobally leaves klog as its flags say.
func ValidateAndSetKlogLevelAndFormatGlobally(context.Context, klog.Level, LogFormat) error {
	return nil
}

// Error logs an error.
func Error(msg string, err error, keysAndValues ...any) { klog.ErrorS(err, msg, keysAndValues...) }

// Fatal logs an error and ends the process.
func Fatal(err error) { klog.Fatal(err) }
