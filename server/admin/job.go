package admin

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// jobs are what is under way, at most one of each name.
type jobs struct {
	ctx context.Context // ends them all
	log *slog.Logger
	wg  sync.WaitGroup

	mu      sync.Mutex
	running map[string]*job
	stopped bool
}

// job is work that several callers may watch.
type job struct {
	mu      sync.Mutex
	last    Line          // the newest; a slow watcher misses those between
	over    bool          // last is the end
	changed chan struct{} // closed when there is a newer one
}

// start begins the work, or joins it when it is under way. nil: the server is stopping.
func (j *jobs) start(name string, work func(ctx context.Context, tell func(Line)) error) (w *job, joined bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if w := j.running[name]; w != nil {
		return w, true
	}
	if j.stopped || j.ctx.Err() != nil {
		return nil, false
	}
	w = &job{last: Line{Event: Began}, changed: make(chan struct{})}
	j.running[name] = w
	j.wg.Go(func() {
		began := time.Now()
		j.log.Info("administration: began", "work", name)
		err := work(j.ctx, func(l Line) { w.tell(l, false) })
		j.mu.Lock()
		delete(j.running, name) // before it is told to be over: who asks again then begins anew
		j.mu.Unlock()
		if err != nil {
			j.log.Error("administration: ended", "work", name, "error", err.Error(), "took", time.Since(began).String())
			w.tell(Line{Event: Failed, Error: err.Error()}, true)
			return
		}
		j.log.Info("administration: done", "work", name, "took", time.Since(began).String())
		w.tell(Line{Event: Done}, true)
	})
	return w, false
}

// wait lets nothing more begin, and waits for what has.
func (j *jobs) wait() {
	j.mu.Lock()
	j.stopped = true
	j.mu.Unlock()
	j.wg.Wait()
}

func (j *jobs) names() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(j.running)), ", ")
}

// tell makes l the newest line. Behind the last one nothing comes: an engine
// call that gave up waiting may still tell of the step that it was at.
func (w *job) tell(l Line, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.last, w.over = l, over
	close(w.changed)
	w.changed = make(chan struct{})
}

// watch calls see with the newest line, and with newer ones until the last, an
// error of see, or the end of ctx.
func (w *job) watch(ctx context.Context, see func(Line) error) error {
	for {
		w.mu.Lock()
		l, over, changed := w.last, w.over, w.changed
		w.mu.Unlock()
		if err := see(l); err != nil || over {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
