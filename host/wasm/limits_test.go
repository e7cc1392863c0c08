package wasm

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/sdk/abi"
)

// TestReplyLimits: the limits that a reply to authenticate sets arrive, each in
// its place.
func TestReplyLimits(t *testing.T) {
	var reply []byte
	reply = abi.AppendUint(reply, abi.FieldAuthenticated, 1)
	for i, f := range []abi.Field{
		abi.FieldMaxSessions, abi.FieldMessagesPerMinute, abi.FieldBytesPerSecond,
		abi.FieldUserMessagesPerMinute, abi.FieldUserBytesPerSecond, abi.FieldMaxMessage,
	} {
		reply = abi.AppendUint(reply, f, uint64(i+1))
	}
	var a hook.AuthReply
	if err := readAuth(&a, abi.VerdictDone, reply); err != nil {
		t.Fatal(err)
	}
	want := hook.Limits{Sessions: 1, MessagesPerMinute: 2, BytesPerSecond: 3, UserMessagesPerMinute: 4, UserBytesPerSecond: 5, Message: 6}
	if diff := cmp.Diff(want, a.Limits); diff != "" {
		t.Error(diff)
	}
	// More than any number can be is no limit, not a negative one.
	if err := readAuth(&a, abi.VerdictDone, abi.AppendUint(nil, abi.FieldMaxMessage, math.MaxUint64)); err != nil || a.Limits.Message != math.MaxInt64 {
		t.Errorf("%d %v", a.Limits.Message, err)
	}
}
