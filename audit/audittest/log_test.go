package audittest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
)

var errTest = errors.New("test")

func TestLogDoesWhatItIsTold(t *testing.T) {
	tests := []struct {
		name             string
		tell             func(l *audittest.Log)
		append, reserved error
	}{
		{"nothing", func(*audittest.Log) {}, nil, nil},
		{"fail", func(l *audittest.Log) { l.Fail(errTest) }, errTest, errTest},
		{"fill", func(l *audittest.Log) { l.Fill(errTest) }, errTest, nil},
		{"fail and recover", func(l *audittest.Log) { l.Fail(errTest); l.Fail(nil) }, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &audittest.Log{}
			tt.tell(l)
			if _, err := l.Append(t.Context(), []byte("{}")); !errors.Is(err, tt.append) {
				t.Errorf("Append() = %v, want %v", err, tt.append)
			}
			if _, err := l.AppendReserved(t.Context(), []byte("{}")); !errors.Is(err, tt.reserved) {
				t.Errorf("AppendReserved() = %v, want %v", err, tt.reserved)
			}
			if err := l.Healthy(); !errors.Is(err, tt.append) {
				t.Errorf("Healthy() = %v, want %v", err, tt.append)
			}
		})
	}
}

func TestLogKeepsItsOwnCopy(t *testing.T) {
	l := &audittest.Log{}
	leaf := []byte(`{"a":1}`)
	for want := range int64(3) {
		if got, err := l.Append(t.Context(), leaf); got != want || err != nil {
			t.Errorf("Append() = %d, %v, want %d", got, err, want)
		}
	}
	leaf[2] = 'b'
	n := 0
	if err := l.Each(func(i int64, leaf []byte) error {
		if string(leaf) != `{"a":1}` || i != int64(n) {
			t.Errorf("leaf %d = %s, want {\"a\":1}", i, leaf)
		}
		n++
		return nil
	}); err != nil || n != 3 {
		t.Errorf("Each() = %v after %d leaves, want 3", err, n)
	}
	if err := l.Each(func(int64, []byte) error { return errTest }); !errors.Is(err, errTest) {
		t.Errorf("Each() = %v, want %v", err, errTest)
	}
}

func TestHangHoldsAppends(t *testing.T) {
	l := &audittest.Log{}
	release := l.Hang()
	done := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), []byte("{}"))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("Append() = %v while the log hangs", err)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	release()
	if err := <-done; err != nil {
		t.Errorf("Append() = %v, want no error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("Append() = %v, want %v", err, context.Canceled)
	}
}

func TestNewGivesAUsableRecorder(t *testing.T) {
	r, l := audittest.New(t, func(c *audit.Config) { c.Source.Node = "node-2" })
	r.Owe(audit.DriverStarted())
	events := audittest.Closed(t, r, l)
	if len(events) != 1 || events[0].Source.Node != "node-2" || events[0].Source.Cluster != "test" {
		t.Errorf("Closed() = %+v, want the start from node-2", events)
	}
}
