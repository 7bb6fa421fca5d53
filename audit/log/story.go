package log

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// maxListed bounds what a report lists: the memory that it takes must not grow
// with the number of events, nor with what somebody made up.
const maxListed = 10_000

// story follows the events for what their order alone tells, over all epochs.
type story struct {
	c        VerifyConfig
	total    int64 // events, as far as the files say
	told     int64
	began    bool // the log's first epoch is there
	from, to time.Time
	ids      map[string]bool // of this epoch
	open     map[string]started
	parts    map[string]*Incomplete // long events by the id of their first part
	unlisted int64
}

type started struct {
	at   Position
	time time.Time
}

// header is what Verify knows of an event.
type header struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Type     Kind      `json:"type"`
	Stage    string    `json:"stage"`
	ParentID string    `json:"parentId"`
	Part     struct {
		First  string `json:"first"`
		Number int    `json:"number"`
		Of     int    `json:"of"`
	} `json:"part"`
	Log Boundary `json:"log"`
}

// readHeader returns false for anything but a JSON object.
func readHeader(leaf []byte) (h header, ok bool) {
	err := json.Unmarshal(leaf, &h)
	return h, err == nil && bytes.HasPrefix(leaf, []byte("{"))
}

func newStory(c VerifyConfig) *story {
	return &story{c: c, open: map[string]started{}, parts: map[string]*Incomplete{}}
}

// begin begins an epoch.
func (s *story) begin() { s.ids = map[string]bool{} }

func (s *story) event(at Position, leaf []byte, h header) error {
	s.began = s.began || at.Epoch == 1
	if s.c.Progress != nil && s.told%progressEvery == 0 {
		s.c.Progress(s.told, s.total)
	}
	s.told++
	if s.c.Each != nil {
		if err := s.c.Each(at, leaf); err != nil {
			return refusal{err}
		}
	}
	if h.ID != "" {
		if s.ids[h.ID] {
			return tampered(at.Index, "has the id of an earlier event")
		}
		s.ids[h.ID] = true
	}
	if s.from.IsZero() {
		s.from = h.Time
	}
	s.to = h.Time
	s.part(at, h)
	s.stage(at, h)
	return nil
}

func (s *story) stage(at Position, h header) {
	switch {
	case h.Stage == "complete":
		delete(s.open, h.ParentID)
	case h.Stage == "intent" && len(s.open) >= maxListed:
		s.unlisted++
	case h.Stage == "intent":
		s.open[h.ID] = started{at, h.Time}
	}
}

// part counts the parts of a long event, which are appended in their order.
func (s *story) part(at Position, h header) {
	p := h.Part
	if p.Of == 0 {
		return
	}
	e, ok := s.parts[p.First]
	switch {
	case !ok && p.Number > 1 && !s.began:
		return // it began in an epoch that is not there, or is not known to have
	case !ok && len(s.parts) >= maxListed:
		s.unlisted++
		return
	case !ok:
		e = &Incomplete{At: at, ID: p.First, Of: p.Of}
		s.parts[p.First] = e
	}
	if p.Number == e.Have+1 && p.Of == e.Of {
		e.Have++
	}
	if e.Have == e.Of {
		delete(s.parts, p.First)
	}
}

func (s *story) incomplete() []Incomplete {
	var list []Incomplete
	for _, e := range s.parts {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Incomplete) int { return a.At.compare(b.At) })
	return list
}

func (s *story) intents() []OpenIntent {
	var list []OpenIntent
	for id, e := range s.open {
		age := s.c.Now.Sub(e.time)
		list = append(list, OpenIntent{At: e.at, ID: id, Age: age, Overdue: age > openTooLong})
	}
	slices.SortFunc(list, func(a, b OpenIntent) int { return a.At.compare(b.At) })
	return list
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Index, q.Index))
}
