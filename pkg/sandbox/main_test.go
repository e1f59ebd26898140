package sandbox

import (
	"fmt"
	"os"
	"testing"
)

// childVariable makes the test binary a child that takes something away from
// itself, which would also be taken from the other tests.
const childVariable = "SBX_SANDBOX_TEST_CHILD"

func TestMain(m *testing.M) {
	child, ok := os.LookupEnv(childVariable)
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch child {
	case "few descriptors":
		err = pipesOfFewDescriptors()
	default:
		err = fmt.Errorf("unknown child %q", child)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
