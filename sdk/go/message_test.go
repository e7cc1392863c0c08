package parley_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
)

func TestMessage(t *testing.T) {
	var b []byte
	b = abi.AppendText(b, abi.FieldUsername, "bob")
	b = abi.AppendBytes(b, 0x8abc, []byte{1, 2, 3})
	b = append(b, 0x01, 0x7d, 0x99, 0x00, 2, 0, 0, 0, 'x', 'y') // a type nobody knows
	b = abi.AppendText(b, abi.FieldUsername, "alice")
	b = abi.AppendUint(b, abi.FieldPort, 1<<40+7)
	b = abi.AppendText(b, abi.FieldSecure, "1") // of the wrong type
	b = abi.AppendPair(b, abi.FieldParam, "item", "a")
	b = abi.AppendPair(b, abi.FieldParam, "other", "x")
	b = abi.AppendPair(b, abi.FieldParam, "item", "b")
	b = abi.AppendBytes(b, abi.FieldValue, []byte{0, 255})
	m := parley.NewMessage(b)

	if got := m.Text(abi.FieldUsername); got != "alice" {
		t.Errorf("username %q: the last counts", got)
	}
	if got := m.Text(abi.FieldRealm); got != "" {
		t.Errorf("realm %q: there is none", got)
	}
	if got := m.Uint(abi.FieldPort); got != 1<<40+7 {
		t.Errorf("port %d", got)
	}
	if got := m.Uint(abi.FieldSecure); got != 0 {
		t.Errorf("secure %d, but it is a text", got)
	}
	if !m.Has(abi.FieldSecure) || m.Has(abi.FieldRealm) {
		t.Error("Has is wrong")
	}
	if got := m.Pair(abi.FieldParam, "item"); got != "b" {
		t.Errorf("item %q: the last counts", got)
	}
	if got := m.PairList(abi.FieldParam, "item"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("items %q", got)
	}
	if got := m.Pairs(abi.FieldParam); len(got) != 3 || got[1] != (parley.Pair{Name: "other", Text: "x"}) {
		t.Errorf("params %q", got)
	}
	if got := m.Bytes(abi.FieldValue); !slices.Equal(got, []byte{0, 255}) {
		t.Errorf("value %v", got)
	}
	// A message that ends in the middle of a field has the fields before.
	for n := range b {
		cut := parley.NewMessage(b[:n])
		if got := cut.Text(abi.FieldUsername); got != "" && got != "bob" && got != "alice" {
			t.Errorf("%d octets: username %q", n, got)
		}
		cut.Pairs(abi.FieldParam)
	}
}

// TestVectors: strings are read as package abi reads octets.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/abi/vectors.json")
	if err != nil {
		t.Skip(err) // the SDK alone, beside a plugin
	}
	var table struct {
		Valid []struct {
			Name, Hex string
			Fields    [][3]any
		}
		Invalid []struct{ Name, Hex string }
	}
	if err := json.Unmarshal(raw, &table); err != nil || len(table.Valid) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, v := range table.Valid {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		m := parley.NewMessage(b)
		for _, field := range v.Fields {
			f := abi.Field(field[0].(float64))
			switch field[1] {
			case "text":
				if got := m.Text(f); got != field[2] {
					t.Errorf("%s: field %v is %q, want %q", v.Name, f, got, field[2])
				}
			case "bytes":
				if got := hex.EncodeToString(m.Bytes(f)); got != field[2] || !m.Has(f) {
					t.Errorf("%s: field %v is %s, want %v", v.Name, f, got, field[2])
				}
			case "uint":
				if got := strconv.FormatUint(m.Uint(f), 10); got != field[2] {
					t.Errorf("%s: field %v is %s, want %v", v.Name, f, got, field[2])
				}
			case "message":
				if got := m.Messages(f); len(got) == 0 {
					t.Errorf("%s: no field %v", v.Name, f)
				}
			}
		}
	}
	for _, v := range table.Invalid {
		b, _ := hex.DecodeString(v.Hex)
		m := parley.NewMessage(b) // must not read past its end
		for f := range abi.Field(300) {
			_ = m.Text(f)
			_ = m.Uint(f)
			m.Pairs(f)
		}
	}
}

// TestReplyKept: replies that begin alike do not write into each other.
func TestReplyKept(t *testing.T) {
	base := parley.NewReply(abi.VerdictDone).Text(abi.FieldPassword, "secret").Uint(abi.FieldMaxExpiresMS, 1)
	var replies []parley.Reply
	for i := range 10 {
		replies = append(replies, base.Pair(abi.FieldAttribute, "n", strconv.Itoa(i)))
	}
	for i, r := range replies {
		if got := r.Message().Pair(abi.FieldAttribute, "n"); got != strconv.Itoa(i) {
			t.Errorf("reply %d says %s", i, got)
		}
	}
	if base.Message().Has(abi.FieldAttribute) {
		t.Error("the reply they began as has changed")
	}
}

func TestMessageAllocs(t *testing.T) {
	b := abi.AppendText(nil, abi.FieldUsername, "alice")
	b = abi.AppendPair(b, abi.FieldParam, "group", "eu")
	m := parley.NewMessage(b)
	if n := testing.AllocsPerRun(100, func() {
		if m.Text(abi.FieldUsername) != "alice" || m.Pair(abi.FieldParam, "group") != "eu" {
			t.Fatal("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations: fields must point into the message", n)
	}
}
