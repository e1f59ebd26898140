package main

// #include <sys/prctl.h>
//
// __attribute__((constructor)) static void timer_slack(void)
// {
//	prctl(PR_SET_TIMERSLACK, 1000000UL);
// }
import "C"

// The runtime's monitor, a thread of its own, sleeps for 20 µs at a time whenever a
// goroutine runs. The kernel may let it sleep longer by the thread's timer slack
// (prctl(2), PR_SET_TIMERSLACK), 50 µs as a rule: so it wakes every 75 µs, in sbx and
// in its init stage, which are busy for some 20 ms of a short run, and takes a
// processor from them each time. With a slack of a millisecond a run has half as many
// context switches and needs a tenth less processor time.
//
// Threads inherit the slack, and the monitor is there before any Go code is. What sbx
// itself waits for by the clock may come that much later. Python gets the kernel's
// default back (pkg/jail).
