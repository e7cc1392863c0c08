package abi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"
	"unicode/utf8"
)

type vectors struct {
	Doc   []string
	Valid []struct {
		Name, Hex string
		Fields    []any
	}
	Invalid []struct {
		Name, Hex string
		Ask       []string // field and type
	}
}

func readVectors(t testing.TB) (v vectors) {
	raw, err := os.ReadFile("../../testdata/abi/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil || len(v.Valid) == 0 || len(v.Invalid) == 0 {
		t.Fatalf("vectors: %v", err)
	}
	return v
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	for _, tt := range v.Valid {
		t.Run(tt.Name, func(t *testing.T) {
			if got := hex.EncodeToString(write(t, tt.Fields)); got != tt.Hex {
				t.Errorf("wrote %s, want %s", got, tt.Hex)
			}
			b, err := hex.DecodeString(tt.Hex)
			if err != nil {
				t.Fatal(err)
			}
			wantFields(t, Read(b), tt.Fields)
		})
	}
	for _, tt := range v.Invalid {
		t.Run(tt.Name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.Hex)
			if err != nil {
				t.Fatal(err)
			}
			r := Read(b)
			for r.Next() {
				if tt.Ask == nil || r.Field.String() != tt.Ask[0] {
					continue
				}
				switch tt.Ask[1] {
				case "text":
					r.Text()
				case "uint":
					r.Uint()
				case "message":
					r.Pair()
				}
			}
			if !errors.Is(r.Err(), ErrMalformed) {
				t.Errorf("error %v", r.Err())
			}
			if r.Next() {
				t.Error("went on after a fault")
			}
		})
	}
}

func write(t *testing.T, fields []any) (b []byte) {
	for _, f := range fields {
		f := f.([]any)
		num := Field(f[0].(float64))
		switch f[1] {
		case "bytes":
			v, err := hex.DecodeString(f[2].(string))
			if err != nil {
				t.Fatal(err)
			}
			b = AppendBytes(b, num, v)
		case "text":
			b = AppendText(b, num, f[2].(string))
		case "uint":
			n, err := strconv.ParseUint(f[2].(string), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			b = AppendUint(b, num, n)
		case "message":
			inner := write(t, f[2].([]any))
			var mark int
			begun := len(b)
			b, mark = Begin(b, num)
			b = End(append(b, inner...), mark)
			if !bytes.Equal(AppendMessage(nil, num, inner), b[begun:]) {
				t.Error("AppendMessage and Begin differ")
			}
		}
	}
	return b
}

func wantFields(t *testing.T, r Reader, fields []any) {
	t.Helper()
	for _, f := range fields {
		f := f.([]any)
		if !r.Next() {
			t.Fatalf("no field %v: %v", f, r.Err())
		}
		got := ""
		switch f[1] {
		case "bytes":
			got = hex.EncodeToString(r.Bytes())
		case "text":
			got = string(r.Text())
		case "uint":
			got = strconv.FormatUint(r.Uint(), 10)
		case "message":
			wantFields(t, r.Message(), f[2].([]any))
			continue
		}
		if float64(r.Field) != f[0] || got != f[2] {
			t.Errorf("field %d is %q, want %v", r.Field, got, f)
		}
	}
	if r.Next() || r.Err() != nil {
		t.Errorf("more fields, or %v", r.Err())
	}
}

func TestPair(t *testing.T) {
	b := AppendPair(nil, FieldParam, "group", "eu")
	b, mark := Begin(b, FieldParam)
	b = End(AppendUint(AppendText(b, FieldText, "x"), 31000, 7), mark) // without a name, with a field of a later version
	r := Read(b)
	for _, want := range [][2]string{{"group", "eu"}, {"", "x"}} {
		r.Next()
		if name, text := r.Pair(); string(name) != want[0] || string(text) != want[1] {
			t.Errorf("pair %q %q, want %q", name, text, want)
		}
	}
}

func TestNames(t *testing.T) {
	if s := FieldTLSSNI.String() + VerdictDeny.String() + ErrNoEnt.Error(); s != "tls_snidenyNOENT" {
		t.Error(s)
	}
	if s := Field(40000).String() + Verdict(9).String() + Errno(-99).Error(); s != "40000verdict 9errno -99" {
		t.Error(s)
	}
	if f, kind, ok := Lookup("max_expires_ms"); !ok || f != FieldMaxExpiresMS || kind != TypeUint {
		t.Error(f, kind, ok)
	}
	if _, _, ok := Lookup("nothing"); ok {
		t.Error("found nothing")
	}
}

func TestAllocs(t *testing.T) {
	buf := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(100, func() {
		b := AppendText(buf[:0], FieldUsername, "alice")
		b = AppendPair(b, FieldParam, "group", "eu")
		b = AppendUint(b, FieldStatus, 403)
		for r := Read(b); r.Next(); {
			switch r.Field {
			case FieldUsername:
				r.Text()
			case FieldParam:
				r.Pair()
			case FieldStatus:
				r.Uint()
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReader: whatever is read is within the message, and a message that can be
// read is written back to the same octets.
func FuzzReader(f *testing.F) {
	v := readVectors(f)
	for _, tt := range v.Valid {
		b, _ := hex.DecodeString(tt.Hex)
		f.Add(b)
	}
	for _, tt := range v.Invalid {
		b, _ := hex.DecodeString(tt.Hex)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		var again []byte
		r := Read(m)
		for r.Next() {
			if len(r.Raw()) > len(m) || cap(r.Raw()) > len(r.Raw()) {
				t.Fatal("a value that reaches beyond itself")
			}
			one := r // asking for a wrong type ends that reader only
			switch r.Type {
			case TypeUint:
				again = AppendUint(again, r.Field, one.Uint())
			case TypeText:
				if text := one.Text(); one.Err() == nil && !utf8.Valid(text) {
					t.Fatal("text that is not UTF-8")
				}
				again = AppendText(again, r.Field, string(r.Raw()))
			case TypeMessage:
				one.Pair()
				again = AppendMessage(again, r.Field, r.Raw())
			default:
				again = append(appendHeader(again, r.Field, r.Type, len(r.Raw())), r.Raw()...)
			}
			if one.Err() != nil && r.Type == TypeUint {
				return // a number that is none is not written back
			}
		}
		if r.Err() == nil && !bytes.Equal(again, m) {
			t.Fatalf("%x became %x", m, again)
		}
		if r.Err() != nil && len(m) >= 8 && uint64(binary.LittleEndian.Uint32(m[4:])) > uint64(len(m)-8) && again != nil {
			t.Fatal("a first field that is too long was read")
		}
	})
}
