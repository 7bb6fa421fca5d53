package main

import (
	"encoding/hex"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// verifyReport is the form of --output json: for machines, and stable.
type verifyReport struct {
	Verdict     string        `json:"verdict"`
	Origin      string        `json:"origin"`
	Epochs      []epochReport `json:"epochs"`
	Events      int64         `json:"events"`
	Checkpoints int           `json:"checkpoints"`
	From        time.Time     `json:"from"`
	To          time.Time     `json:"to"`
	Signed      int64         `json:"signed"`      // events that a checkpoint covers: of these alone anything is proved
	Unsigned    int64         `json:"unsigned"`    // the others
	DeletedUpTo int64         `json:"deletedUpTo"` // epoch; 0 if the first one is there
	Lost        []lostEpochs  `json:"lost"`        // what the node itself did not find
	Known       int           `json:"known"`       // checkpoints from elsewhere that it was held against
	OpenIntents []openIntent  `json:"openIntents"`
	Incomplete  []incomplete  `json:"incomplete"`
	Unlisted    int64         `json:"unlisted"` // how many more there are than the two lists take
}

type epochReport struct {
	Number      int64  `json:"number"`
	Origin      string `json:"origin"`
	Events      int64  `json:"events"`
	Signed      int64  `json:"signed"`
	Checkpoints int    `json:"checkpoints"`
	Root        string `json:"root"` // hexadecimal
	Closed      bool   `json:"closed"`
	Key         string `json:"key"`
	Rotated     string `json:"rotated,omitempty"`
}

type lostEpochs struct {
	After int64 `json:"after"`
	Epoch int64 `json:"epoch"`
}

type incomplete struct {
	ID   string            `json:"id"`
	At   auditlog.Position `json:"at"`
	Have int               `json:"have"`
	Of   int               `json:"of"`
}

type openIntent struct {
	ID         string            `json:"id"`
	At         auditlog.Position `json:"at"`
	AgeSeconds int64             `json:"ageSeconds"`
	Overdue    bool              `json:"overdue"`
}

func jsonReport(r auditlog.Report) verifyReport {
	v := verifyReport{
		Verdict: r.Verdict(), Origin: r.Origin, Epochs: []epochReport{}, Events: r.Events, Checkpoints: r.Checkpoints,
		From: r.From, To: r.To, Signed: r.Signed, Unsigned: r.Tail, DeletedUpTo: r.Deleted, Lost: []lostEpochs{}, Known: r.Known,
		OpenIntents: []openIntent{}, Incomplete: []incomplete{}, Unlisted: r.Unlisted,
	}
	for _, e := range r.Epochs {
		v.Epochs = append(v.Epochs, jsonEpoch(e))
	}
	for _, l := range r.Lost {
		v.Lost = append(v.Lost, lostEpochs{l.After, l.Epoch})
	}
	for _, in := range r.Incomplete {
		v.Incomplete = append(v.Incomplete, incomplete{in.ID, in.At, in.Have, in.Of})
	}
	for _, in := range r.OpenIntents {
		v.OpenIntents = append(v.OpenIntents, openIntent{in.ID, in.At, int64(in.Age.Seconds()), in.Overdue})
	}
	return v
}

func jsonEpoch(e auditlog.EpochReport) epochReport {
	return epochReport{
		Number: e.Number, Origin: e.Origin, Events: e.Events, Signed: e.Signed, Checkpoints: e.Checkpoints,
		Root: hex.EncodeToString(e.Root[:]), Closed: e.Closed, Key: e.Key, Rotated: e.Rotated,
	}
}
