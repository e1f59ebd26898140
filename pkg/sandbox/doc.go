// Package sandbox runs a Python program in a jail that the kernel enforces and
// returns a report of everything that it did.
//
// [Run] is the whole life of one execution. It reads like this list:
//
//  1. find the interpreter and read the program, a script, a directory, or a
//     workspace: what is wrong with them is said before anything is started;
//  2. make the run's cgroup;
//  3. clone the init stage into new namespaces; while it comes up,
//  4. learn what of the host the interpreter needs, and compile the system-call
//     policy (from the cache, where they are known);
//  5. plan the jail: a pure function from profile, interpreter and program;
//  6. the stage builds its root, restricts one thread and hands out the listener
//     of its filter;
//  7. judge the layers: one that is required and absent ends the run here;
//  8. answer the listener, with the stack of whoever is refused;
//  9. let Python start, and observe it while its execve(2) waits;
//  10. carry its streams, run the clocks, until it ends or is ended, and before the
//     latter look where it stands;
//  11. end everything that is left, and take the accounts;
//  12. decide the verdict and build the report.
//
// # What is promised
//
// The kernel is the wall: namespaces, the mount table, capabilities, seccomp,
// Landlock, cgroups. The Python hook is evidence and courtesy: it lives in the
// script's own address space, where it can be silenced and made to lie, so no
// promise rests on it, and every event that only it saw is marked untrusted.
//
// Nothing is weaker than asked without a word: a required layer that is absent
// ends the run before the script starts, and what the report says of a layer
// was observed on the running process.
//
// # What is not promised
//
// Safety against a kernel bug that is reachable through an allowed call; what
// any process can see of a shared kernel (version, processor, clocks, timing);
// and anything that the caller gives away: a host network, a writable host
// path.
package sandbox
