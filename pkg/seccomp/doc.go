// Package seccomp turns the system-call policy of a profile into a BPF program
// and knows the system calls by name, number and argument.
//
// There is one table of system calls: policies are resolved against it, the
// supervisor decodes notified calls with it, and the tests derive their cases
// from it. A policy is resolved to plain values first ([Resolve]); the filter
// ([Policy.Compile]) and the supervisor's answer ([Policy.Decide]) are two
// readings of the same values.
//
// What a filter does not allow is neither allowed nor killed: it is notified to
// the supervisor, so that nothing is refused without being named. Only
// [Policy.Decide] answers for such a call, and it sees scalars: what a pointer
// leads to can change between the look and the call (seccomp_unotify(2)).
//
// The package must not start processes, and loads a filter only into the thread
// that calls [Program.Install].
package seccomp
