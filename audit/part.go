package audit

import (
	"encoding/json"

	"github.com/google/uuid"
)

// partRoom is what the lists of one part may fill: the rest of an event is far
// below the difference to MaxEventBytes.
const partRoom = MaxEventBytes - 8<<10

// item is one element of a list, and its size as JSON.
type item struct {
	size int
	add  func(*Event)
}

// split returns the event, or the parts that hold its lists together. The
// first part carries everything else, and the id.
func split(e Event) ([]Event, error) {
	text, err := encode(e)
	if err != nil || len(text) <= MaxEventBytes {
		return []Event{e}, err
	}
	base, items := stripped(e)
	parts := []Event{base}
	used := 0
	for _, it := range items {
		if used+it.size > partRoom {
			next, err := continuation(base)
			if err != nil {
				return nil, err
			}
			parts, used = append(parts, next), 0
		}
		it.add(&parts[len(parts)-1])
		used += it.size
	}
	for i := range parts {
		parts[i].Part = &Part{First: e.ID, Number: i + 1, Of: len(parts)}
	}
	return parts, nil
}

// stripped returns the event without its lists, and their elements.
func stripped(e Event) (Event, []item) {
	var items []item
	for _, g := range e.Actor.Groups {
		items = append(items, newItem(g, func(e *Event) { e.Actor.Groups = append(e.Actor.Groups, g) }))
	}
	for _, s := range e.Secrets {
		items = append(items, newItem(s, func(e *Event) { e.Secrets = append(e.Secrets, s) }))
	}
	for _, f := range e.Files {
		items = append(items, newItem(f, func(e *Event) { e.Files = append(e.Files, f) }))
	}
	if p := e.Policy; p != nil {
		for _, r := range p.Rules {
			items = append(items, newItem(r, func(e *Event) { e.Policy.Rules = append(e.Policy.Rules, r) }))
		}
		for _, g := range p.Grants {
			items = append(items, newItem(g, func(e *Event) { e.Policy.Grants = append(e.Policy.Grants, g) }))
		}
		for _, w := range p.Waivers {
			items = append(items, newItem(w, func(e *Event) { e.Policy.Waivers = append(e.Policy.Waivers, w) }))
		}
	}
	return summary(e), items
}

// summary is the event without its lists.
func summary(e Event) Event {
	e.Actor.Groups, e.Secrets, e.Files = nil, nil, nil
	if e.Policy != nil {
		p := *e.Policy
		p.Rules, p.Grants, p.Waivers = nil, nil, nil
		e.Policy = &p
	}
	return e
}

func newItem(v any, add func(*Event)) item {
	text, err := json.Marshal(v)
	if err != nil {
		return item{size: partRoom, add: add} // alone in its part, where the check of the whole says what is wrong
	}
	return item{size: len(text) + 1, add: add}
}

// continuation is a part that repeats what identifies the event and no more.
// It has no stage: only the first part is ended.
func continuation(base Event) (Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Event{}, err
	}
	e := base
	e.ID, e.Stage, e.ParentID = id.String(), "", base.ParentID
	e.Class, e.Rotation, e.Change, e.Trace, e.Repeated = nil, nil, nil, nil, 0
	if base.Policy != nil {
		e.Policy = &Policy{DecisionID: base.Policy.DecisionID, Effect: base.Policy.Effect}
	}
	return e, nil
}
