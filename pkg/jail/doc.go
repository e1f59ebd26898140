// Package jail plans a jail and builds it. [Plan] is pure: it turns what a run
// asks for into a [Blueprint], plain data that a test can look at. The init
// stage ([MaybeInit]) is PID 1 of the jail: it does what the blueprint says, and
// decides nothing.
//
// The stage is born into its namespaces by the clone itself, with an empty
// environment. It then goes this way, and stops with a [SetupError] at the first
// step that the kernel refuses:
//
//  1. not dumpable; every descriptor that nobody meant for it closed; the
//     configuration read;
//  2. mounts made private; a tmpfs for the new root, with links, mounts, files;
//  3. pivot_root(2) into it, the old root detached;
//  4. host name, and the loopback interface where the profile has one;
//  5. the descriptors for Python put in place; the root read-only;
//  6. on one locked thread: cgroups, the cgroup namespace, timer slack, limits,
//     capabilities, no_new_privs, Landlock, and last the filter, whose listener
//     goes to the host;
//  7. Python is started from that thread when the host says so, and inherits all
//     of it. Init reaps, and ends with the script's main process.
//
// What this package must not do: decide whether a run may go on without a layer
// (it reports what it observed, in [Ready]), answer the listener, or know about
// reports.
package jail
