package log

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// story follows the events for what their order alone tells.
type story struct {
	c        VerifyConfig
	total    func() int64
	from, to time.Time
	ids      map[string]bool
	open     map[string]int // place in started
	started  []started
	parts    map[string]*Incomplete // long events by the id of their first part
}

type started struct {
	index int64
	id    string
	at    time.Time
}

// header is what Verify knows of an event.
type header struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Stage    string    `json:"stage"`
	ParentID string    `json:"parentId"`
	Part     struct {
		First  string `json:"first"`
		Number int    `json:"number"`
		Of     int    `json:"of"`
	} `json:"part"`
}

func (s *story) event(index int64, leaf []byte) error {
	if s.c.Progress != nil && index%progressEvery == 0 {
		s.c.Progress(index, s.total())
	}
	if s.c.Each != nil {
		if err := s.c.Each(index, leaf); err != nil {
			return err
		}
	}
	var h header
	if err := json.Unmarshal(leaf, &h); err != nil || !bytes.HasPrefix(leaf, []byte("{")) {
		return tampered(index, "is not a JSON object")
	}
	if h.ID != "" {
		if s.ids[h.ID] {
			return tampered(index, "has the id of an earlier event")
		}
		s.ids[h.ID] = true
	}
	if s.from.IsZero() {
		s.from = h.Time
	}
	s.to = h.Time
	s.part(index, h)
	switch h.Stage {
	case "intent":
		s.open[h.ID] = len(s.started)
		s.started = append(s.started, started{index, h.ID, h.Time})
	case "complete":
		delete(s.open, h.ParentID)
	}
	return nil
}

// part counts the parts of a long event, which are appended in their order.
func (s *story) part(index int64, h header) {
	p := h.Part
	if p.Of == 0 {
		return
	}
	e, ok := s.parts[p.First]
	if !ok {
		e = &Incomplete{Index: index, ID: p.First, Of: p.Of}
		s.parts[p.First] = e
	}
	if p.Number == e.Have+1 && p.Of == e.Of {
		e.Have++
	}
}

func (s *story) incomplete() []Incomplete {
	var list []Incomplete
	for _, e := range s.parts {
		if e.Have != e.Of {
			list = append(list, *e)
		}
	}
	slices.SortFunc(list, func(a, b Incomplete) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

func (s *story) intents() []OpenIntent {
	var list []OpenIntent
	for i, e := range s.started {
		if at, ok := s.open[e.id]; !ok || at != i {
			continue
		}
		age := s.c.Now.Sub(e.at)
		list = append(list, OpenIntent{Index: e.index, ID: e.id, Age: age, Overdue: age > openTooLong})
	}
	return list
}
