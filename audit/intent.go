package audit

// Intent is a delivery that was decided and has no end in the log yet.
type Intent struct {
	EventID    string
	DecisionID string
	Claim      // the pod and the volume, as they were confirmed then

	event Event
}

// Leaves gives stored events in their order, each with its index in its epoch.
type Leaves interface {
	Each(f func(index int64, leaf []byte) error) error
}

// OpenIntents returns the deliveries without an end, oldest first: a crash or a
// power cut came between. Whoever starts must give each its end with Ended. It
// needs not be given the whole log: a delivery takes two minutes at most, and
// every start ends what the process before it left open.
func OpenIntents(l Leaves) ([]Intent, error) {
	found, err := Resume(l)
	return found.Intents, err
}

func intentOf(e Event) Intent {
	in := Intent{EventID: e.ID, event: e}
	if e.Policy != nil {
		in.DecisionID = e.Policy.DecisionID
	}
	if w := e.Workload; w != nil {
		in.Claim = Claim{w.Namespace, w.Pod, w.PodUID, w.ServiceAccount, w.Volume}
	}
	return in
}

// Ended gives an open intent its end: Recovered if the volume is mounted, else
// Abandoned.
func Ended(in Intent, mounted bool) Event {
	reason := ReasonAbandoned
	if mounted {
		reason = ReasonRecovered
	}
	t := in.event.Type
	if t == "" {
		t = TypeMount
	}
	e := newEvent(t, reason.outcome())
	e.Stage, e.ParentID = StageComplete, in.EventID
	e.Severity, e.Reason = reason.severity(), reason
	e.Actor, e.Workload, e.Class = in.event.Actor, in.event.Workload, in.event.Class
	if e.Workload == nil {
		e.Workload = in.workload()
	}
	if e.Actor.Kind == "" {
		e.Actor = in.actor()
	}
	if p := in.event.Policy; p != nil {
		e.Policy = &Policy{DecisionID: p.DecisionID, Effect: p.Effect, Phase: p.Phase, BundleDigest: p.BundleDigest,
			LibraryDigest: p.LibraryDigest, BundleSerial: p.BundleSerial, Unsigned: p.Unsigned, BreakGlass: p.BreakGlass, InputSHA256: p.InputSHA256, NowNS: p.NowNS}
		if p.BreakGlass {
			e.Severity = SeverityCritical
		}
	}
	return e
}
