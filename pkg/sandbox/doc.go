// Package sandbox runs a Python program in a jail that the kernel enforces and
// returns a report of everything that it did.
//
// [Run] is the whole life of one execution. It reads like this list:
//
//  1. find the interpreter and read the program, a script, a directory, or a
//     workspace: what is wrong with them is said before anything is started;
//  2. make the run's cgroup, where processes are born into it;
//  3. clone the init stage into new namespaces; while it comes up, make the groups
//     of cgroup v1, which Python joins,
//  4. learn what of the host the interpreter needs, and compile the system-call
//     policy (from the cache, where they are known);
//  5. plan the jail: a pure function from profile, interpreter and program;
//  6. the stage builds its root, restricts one thread and hands out the listener
//     of its filter;
//  7. judge the layers: one that is required and absent ends the run here;
//  8. answer the listener, with the stack of whoever is refused;
//  9. let Python start, and observe it while its execve(2) waits;
//  10. carry its streams, run the clocks, until it ends or is ended, and before the
//     latter, and where its memory is nearly used up, look where it stands;
//  11. end everything that is left, and take the accounts;
//  12. decide the verdict and build the report.
//
// # Security
//
// Assets: the host's files, kernel, processes and network position; sbx, its
// report and its verdict; other runs; the caller's terminal, environment and
// descriptors.
//
// Adversaries: the author of the script, with native code and any system call;
// scripts in league; honest bugs; the files around the script; a careless caller.
// Not whoever has the caller's rights on the host.
//
// Boundary: the kernel is the wall, by namespaces, the mount table, capabilities,
// seccomp, Landlock, cgroups. The Python hook is evidence and courtesy: it lives
// in the script's own address space, where it can be silenced and made to lie, so
// no promise rests on it, and every event that only it saw is marked untrusted.
// All that comes out of the jail is hostile input.
//
// The README has the promises, each with its mechanism and with the tests that
// fail when it breaks. A test keeps the names in that table true, and scripts/mutate
// takes each mechanism away to see the tests fail.
//
// Nothing is weaker than asked without a word: a required layer that is absent
// ends the run before the script starts, and what the report says of a layer
// was observed on the running process.
//
// Not promised: safety against a kernel bug that is reachable through an allowed
// call; side channels of shared hardware, and what any process can see of a shared
// kernel (version, processor, clocks, timing, record locks on a file that two runs
// can read); the hook's word; and anything that the caller gives away: a host
// network, a writable host path.
//
// A hole is reported in private, as the README says.
package sandbox
