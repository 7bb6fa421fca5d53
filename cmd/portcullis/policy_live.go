package main

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

const (
	// asking is how many pods may wait for answers of the API server at a time. What
	// they refer to is read object by object, with the rights of a person; one after
	// the other, a cluster that is fifty milliseconds away would take a minute. Pods
	// of one workload, which lists have side by side, wait for the same answers.
	asking = 64
	// ahead is how many pods may be read before the first of them is decided on.
	ahead = asking
)

// livePods calls each for every volume of the pods of the cluster, in the order of
// the list, while the objects of the next ones are read.
func (o *objects) livePods(ctx context.Context, each func(workload.Volume) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue, listed := make(chan chan []workload.Volume, ahead), make(chan error, 1)
	go func() {
		listed <- o.readAhead(ctx, queue)
	}()
	var failed error
	for read := range queue {
		for _, v := range <-read {
			if failed == nil {
				failed = each(v)
			}
		}
		if failed == nil {
			failed = ctx.Err()
		}
		if failed != nil {
			cancel() // what was read ahead is not wanted any more
		}
	}
	if err := <-listed; failed == nil {
		return err
	}
	return failed
}

// readAhead fills the queue with what will hold the volumes of one pod each, and
// closes it when nothing is read any more.
func (o *objects) readAhead(ctx context.Context, queue chan<- chan []workload.Volume) error {
	var reading sync.WaitGroup
	defer func() {
		reading.Wait()
		close(queue)
	}()
	slots := make(chan struct{}, asking)
	return o.live.Pods(ctx, o.podsOf, func(p *corev1.Pod) error {
		volumes := make(chan []workload.Volume, 1)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case queue <- volumes:
		case <-ctx.Done():
			<-slots
			return ctx.Err()
		}
		reading.Go(func() {
			volumes <- o.circumstances.Volumes(ctx, workload.FromPod(p))
			<-slots
		})
		return nil
	})
}
