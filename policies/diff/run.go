package diff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/portcullis-csi/portcullis/policies"
)

// MaxGroups bounds the different changes that are listed.
const MaxGroups = 20_000

// windowPerWorker is how many cases one worker may be ahead of the slowest.
const windowPerWorker = 32

// Side is one of the bundles.
type Side struct {
	Engine *policies.Engine
	Grants Owners // of the bundle's grants
}

// Config of a comparison. Both sides are required.
type Config struct {
	Old, New Side
	Verbose  bool              // also list changes that are no flips
	Workers  int               // absent: one for each core
	Progress func(cases int64) // absent: nobody asks
}

// Source hands over cases until there are no more, or emit returns an error,
// which it returns.
type Source func(ctx context.Context, emit func(Case) error) error

// Report is what changes. Its JSON is stable, and bounded.
type Report struct {
	Cases     int64            `json:"cases"`     // inputs
	Decisions int64            `json:"decisions"` // that they stand for
	Flips     int64            `json:"flips"`     // decisions whose effect changes
	Changes   int64            `json:"changes"`   // decisions that change in anything else
	Undecided int64            `json:"undecided"` // decisions that neither bundle makes
	Matrix    map[string]int64 `json:"matrix"`    // decisions by "from->to"
	Owners    []OwnerCount     `json:"owners"`    // of flips
	Flipped   []Change         `json:"flipped"`
	Changed   []Change         `json:"changed,omitempty"` // with Verbose
	Unlisted  int64            `json:"unlisted"`          // decisions beyond the bound of the lists

	byOwner map[string]int64
}

// OwnerCount says how many decisions flip by grants of an owner.
type OwnerCount struct {
	Owner string `json:"owner"` // "" where no grant of anybody is concerned
	Flips int64  `json:"flips"`
}

type job struct {
	number int64
	k      Case
}

type outcome struct {
	number int64
	weight int64
	both   bool // are undecided
	effect string
	change *Change
}

// Run compares the bundles over all cases.
func Run(ctx context.Context, c Config, source Source) (Report, error) {
	if c.Old.Engine == nil || c.New.Engine == nil || c.Old.Grants == nil || c.New.Grants == nil {
		return Report{}, errors.New("compare bundles: a side is missing")
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, done := make(chan job), make(chan outcome)
	window := make(chan struct{}, windowPerWorker*c.Workers)
	failed := make(chan error, 1)
	go func() {
		defer close(jobs)
		failed <- feed(ctx, source, window, jobs)
	}()
	var workers sync.WaitGroup
	for range c.Workers {
		workers.Go(func() { c.work(ctx, jobs, done) })
	}
	go func() {
		workers.Wait()
		close(done)
	}()
	report := c.collect(window, done)
	if err := either(<-failed, ctx.Err()); err != nil {
		return Report{}, fmt.Errorf("compare bundles: %w", err)
	}
	return report, nil
}

// feed numbers cases and keeps them from running far ahead of the slowest, which
// is what bounds memory.
func feed(ctx context.Context, source Source, window chan<- struct{}, jobs chan<- job) error {
	number := int64(0)
	return source(ctx, func(k Case) error {
		select {
		case window <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case jobs <- job{number, k}:
			number++
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

func (c Config) work(ctx context.Context, jobs <-chan job, done chan<- outcome) {
	for j := range jobs {
		before, after := c.Old.Engine.Decide(ctx, j.k.Input), c.New.Engine.Decide(ctx, j.k.Input)
		from, to := before.Effect(), after.Effect()
		done <- outcome{
			number: j.number, weight: max(j.k.Weight, 1), both: from == policies.EffectUndecided && to == policies.EffectUndecided,
			effect: string(from) + "->" + string(to), change: Compare(j.k, Answer{before, c.Old.Grants}, Answer{after, c.New.Grants}),
		}
	}
}

// collect takes outcomes in the order of the cases, so that which changes are
// listed does not depend on who was faster.
func (c Config) collect(window <-chan struct{}, done <-chan outcome) Report {
	r := Report{Matrix: map[string]int64{}, byOwner: map[string]int64{}}
	groups, early, next := map[string]*Change{}, map[int64]outcome{}, int64(0)
	for o := range done {
		early[o.number] = o
		for {
			o, ok := early[next]
			if !ok {
				break
			}
			delete(early, next)
			next++
			<-window
			c.add(&r, groups, o)
			if c.Progress != nil {
				c.Progress(next)
			}
		}
	}
	r.sort(groups)
	return r
}

// plus adds without running over: a sum that turned negative would make many
// flips look like none.
func plus(to *int64, n int64) {
	if *to > math.MaxInt64-n {
		*to = math.MaxInt64
		return
	}
	*to += n
}

func (c Config) add(r *Report, groups map[string]*Change, o outcome) {
	r.Cases++
	plus(&r.Decisions, o.weight)
	r.tally(o)
	switch {
	case o.change == nil:
		return
	case o.change.Flips():
		plus(&r.Flips, o.weight)
		r.count(o.change)
	default:
		plus(&r.Changes, o.weight)
		if !c.Verbose {
			return
		}
	}
	if known := groups[o.change.key]; known != nil {
		plus(&known.Count, o.weight)
		return
	}
	if len(groups) == MaxGroups {
		plus(&r.Unlisted, o.weight)
		return
	}
	groups[o.change.key] = o.change
}

// tally counts the effects, whether they changed or not.
func (r *Report) tally(o outcome) {
	n := r.Matrix[o.effect]
	plus(&n, o.weight)
	r.Matrix[o.effect] = n
	if o.both {
		plus(&r.Undecided, o.weight)
	}
}

// count adds a flip to its owners.
func (r *Report) count(change *Change) {
	owners := change.Owners
	if len(owners) == 0 {
		owners = []string{""}
	}
	for _, owner := range owners {
		n := r.byOwner[owner]
		plus(&n, change.Count)
		r.byOwner[owner] = n
	}
}

func (r *Report) sort(groups map[string]*Change) {
	r.Flipped = []Change{}
	for _, change := range groups {
		if change.Flips() {
			r.Flipped = append(r.Flipped, *change)
		} else {
			r.Changed = append(r.Changed, *change)
		}
	}
	for _, list := range [][]Change{r.Flipped, r.Changed} {
		slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.key, b.key) })
	}
	r.Owners = []OwnerCount{}
	for owner, flips := range r.byOwner {
		r.Owners = append(r.Owners, OwnerCount{owner, flips})
	}
	slices.SortFunc(r.Owners, func(a, b OwnerCount) int {
		return cmp.Or(cmp.Compare(b.Flips, a.Flips), cmp.Compare(a.Owner, b.Owner))
	})
}

// either keeps an error that both have from being told twice.
func either(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
