package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Opening is what a process found of its log.
type Opening struct {
	Epoch    int64 // that is written to
	Size     int64 // its events
	Root     [32]byte
	Unsigned int64 // events that no signature covered
	Missing  int64 // epochs that are not there and should be
}

// LogFound says at which size and root a process found the log.
func LogFound(o Opening) Event {
	return LogBoundary(TypeLogOpened, LogState{
		Epoch: o.Epoch, Size: o.Size, Root: hex.EncodeToString(o.Root[:]), Unsigned: o.Unsigned, Missing: o.Missing,
	})
}

// LogBoundary is an event of these types: log.opened, log.closed, key.rotated.
func LogBoundary(t Type, s LogState) Event {
	e := newEvent(t, OutcomeSuccess)
	e.Log = &s
	switch {
	case s.Lost, s.Missing > 0:
		e.Severity = SeverityHigh
	case s.Unsigned > 0, t == TypeKeyRotated:
		e.Severity = SeverityMedium
	}
	return e
}

// BoundaryLeaf makes the leaves that a log writes about itself: the Boundary of
// audit/log's Config. The state is a LogState in JSON.
func BoundaryLeaf(s Source, clock func() time.Time) func(kind string, state []byte) ([]byte, error) {
	return func(kind string, state []byte) ([]byte, error) {
		var log LogState
		if err := json.Unmarshal(state, &log); err != nil {
			return nil, fmt.Errorf("read the state of the log: %w", err)
		}
		e := LogBoundary(Type(kind), log)
		e.Code, e.Source, e.Time = codeOf(e.Type, e.Outcome), s, clock().UTC()
		if err := e.Validate(); err != nil {
			return nil, err
		}
		return encode(e)
	}
}
