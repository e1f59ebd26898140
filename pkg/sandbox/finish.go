package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/supervisor"
)

// ending is how a run ended, with its accounts.
type ending struct {
	at    time.Time
	cause cause
	// failure is what the supervisor failed of, nil when it served to the end.
	failure error
	// accounts is why the group's account is not whole: what could not be read
	// is zero.
	accounts error
	exit     *jail.Exit // nil when the init stage died first
	usage    cgroup.Usage
	events   cgroup.Events
	sup      supervisor.Result
}

// finish ends what is left of the run and takes the accounts, before the group
// that keeps them is removed.
func (x *execution) finish(ctx context.Context, exit *jail.Exit, c cause) *ending {
	end := &ending{exit: exit, at: time.Now(), cause: c}
	x.jail.Kill()
	if x.group.V2Dir() != nil {
		// The same for whoever might be in the group and not in the pid namespace.
		// It is one write(2); on v1, where it is a hunt, Close does it if need be.
		_ = x.group.Kill()
	}
	if exit != nil {
		// Whatever the script started was reaped before the init stage said so. The
		// accounts are whole, and can be taken while the stage itself ends.
		x.takeAccounts(end)
	}
	end.failure = x.supervision() // which ends with the last task, and looks at the jail until then
	end.sup = x.supervisor.Result()
	x.clocks.wait() // they look at the jail as well
	if exit == nil {
		_, _ = x.jail.Wait()
		x.jail = nil
		x.takeAccounts(end)
	}
	x.deliver(ctx, c)
	if stats := end.sup.Hook; !x.hooked() {
		x.layers.absent("python_hooks", "the hook is off")
	} else if stats.Started {
		x.layers.active("python_hooks", fmt.Sprintf("its start record, mode %s; evidence, no wall", stats.Mode))
	} else {
		x.layers.absent("python_hooks", "no start record came from the hook")
	}
	return end
}

// takeAccounts reads for the last time what was used.
func (x *execution) takeAccounts(end *ending) {
	x.account.inFiles()
	var usage, events error
	end.usage, usage = x.group.Usage()
	end.events, events = x.group.Events()
	end.accounts = errors.Join(usage, events)
}

// deliver waits until the reader has what the script printed. A slow one has the
// time that the script would have had, since it would have made the script wait.
func (x *execution) deliver(ctx context.Context, c cause) {
	grace := streamGrace
	if left := x.spec.Profile.Limits.Wall - time.Since(x.execAt); c == causeNone && left > grace {
		grace = left
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-x.drained:
		return
	case <-timer.C:
	case <-ctx.Done(): // a further signal to sbx
	}
	x.out.abandon(x.pipes.fromOut)
	x.err.abandon(x.pipes.fromErr)
}

// refused is the refusal by which a budget was spent.
type refused struct {
	what string
	same uint64 // how often that same thing was tried; 0 if it is the sum that is too high
	sum  uint64
}

// refusedOnceMore ends a run that keeps trying. It is called by whoever records
// the event.
func (x *execution) refusedOnceMore(e event.Event, same, sum uint64) {
	what := e.Op
	if e.Target != "" && e.Target != e.Op {
		what += " " + e.Target
	}
	x.refused = refused{what, same, sum}
	x.ender.end(causeDenials)
}

// kill ends the jail, and writes down why.
func (x *execution) kill(c cause) {
	select {
	case <-x.observed: // afterwards nobody could tell
		x.cpuAtKill, _ = x.cpuUsed()
		x.readsInput, _ = posture.ReadsInput("/proc", x.python)
		x.stood = x.stoodAt()
		x.lookAtUse()
	default: // the script has not begun
	}
	x.jail.Kill()
	op := map[cause]string{causeWall: "wall_time", causeCPU: "cpu_time", causeMemory: "memory", causeThrashing: "memory", causeOutput: "output", causeDenials: "denials", causeInterrupted: "interrupt", causeSupervisor: "supervisor"}[c]
	x.recorder.Record(event.Event{
		Time: time.Since(x.start), Layer: event.Supervisor, Category: event.Resource, Op: op, Target: op, Verdict: event.Killed,
	})
}
