// Package pystack reads the frames of a CPython interpreter from outside of its
// process: which line of which file a thread stands at, and who called it.
//
// The interpreter keeps its threads in a list that begins in _PyRuntime, a
// variable of the interpreter's own file, and each thread's frames in another
// list. Where in these structures a field lies differs by version; layout.go has
// the facts. They are followed with process_vm_readv(2), without stopping anybody
// and without any code in the interpreter: a thread that waits in a notified
// system call stands still by itself.
//
// # Whose word it is
//
// Everything that is read belongs to the script, which can change it: a location
// from here is a claim, and marked as one. What must not be the script's is kept
// away from it: where _PyRuntime lies comes from the interpreter's file on the
// host, before the run ([Locate]), and never from a file that the jail names.
// Reading is bounded in depth, reads and bytes, follows no list for ever, and
// answers "?" for what makes no sense.
//
// That the facts fit the interpreter is shown once for each run: its boot makes
// one system call at a place that is known, and the stack that is read there must
// be the known one ([Reader.Calibrate]). Where that call cannot be had, the first
// stack that is asked for must begin with the boot's own frame. A reader that
// fails is off for the rest of the run, and says why.
//
// # What a stack is
//
// Innermost first, as Python would show it: without the frames of sbx's own boot
// and hook. The frame to name is the innermost one of the script's own code, as
// the hook has it: not of the runtime's directories and not frozen; where all are
// the runtime's, the innermost. Functions have their qualified name where the
// version keeps one (3.11 and later).
//
// A child of vfork(2) runs in its parent's memory and has no thread of its own
// there: it stands where the thread stands that waits for it, which the arguments
// and the stack pointers of /proc/PID/task/TID/syscall tell.
//
// # Versions
//
// CPython 3.9 to 3.13 for x86-64 are tested. For 3.14, free-threaded builds
// excepted, the layout is written from its headers and not tested; 3.8 is not
// read. What depends on the architecture is in arch_*.go; for 64-bit ARM that is
// written from glibc's sources and not tested.
package pystack
