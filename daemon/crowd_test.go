package daemon_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/daemon"
)

// room is a listener with so many places, and how to come in.
func room(t *testing.T, most int) (comes func(from string, idle bool) net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	crowd := daemon.Crowd(l, most)
	t.Cleanup(func() { _ = crowd.Close() })
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := crowd.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	return func(from string, idle bool) net.Conn {
		t.Helper()
		conn := enter(t, l.Addr().String(), from)
		guest := <-accepted
		t.Cleanup(func() { _ = guest.Close() })
		told, ok := guest.(interface{ SetIdle(idle bool) })
		if !ok {
			t.Fatalf("a guest is %T, which nobody can tell that it is idle", guest)
		}
		told.SetIdle(idle)
		return conn
	}
}

// stays reports whether the other side has left a connection open.
func stays(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Many addresses with a few connections each fill a room: an API server that has
// more than each of them loses what it does not use, and never what it waits for.
func TestP8WhatIsIdleMakesRoomFirst(t *testing.T) {
	comes := room(t, 20)
	waits := comes("127.0.0.1", false)
	kept := []net.Conn{comes("127.0.0.1", true), comes("127.0.0.1", true), comes("127.0.0.1", true)}
	for i := range 19 {
		comes(fmt.Sprintf("127.0.1.%d", i+1), false)
		if !stays(t, waits) {
			t.Fatalf("the connection that waits for an answer was closed for the connection of address %d", i+1)
		}
	}
	for i, conn := range kept {
		if stays(t, conn) {
			t.Errorf("idle connection %d is still there: one in use was closed for want of room", i)
		}
	}
}

// Whoever has more than a quarter makes room of its own, also of what is in use.
func TestP8WhoHasMuchMakesRoomItself(t *testing.T) {
	comes := room(t, 20)
	idle := comes("127.0.0.1", true)
	first := comes("127.0.1.1", false)
	for range 18 {
		comes("127.0.1.1", false)
	}
	if !stays(t, first) {
		t.Fatal("the room is not full yet")
	}
	comes("127.0.2.1", false)
	if stays(t, first) || !stays(t, idle) {
		t.Error("want that the oldest of the address with the most went, and the idle one of another stayed")
	}
}
