// Package jsonconfig reads a plugin's configuration where that is JSON, which is
// what a relay makes of YAML. It is strict: an operator's typing error must not
// become a default.
//
//	parley.OnLoad(func(text string) error {
//		var c struct {
//			Group string              `json:"group"`
//			Keep  jsonconfig.Duration `json:"keep"`
//		}
//		return jsonconfig.Decode(text, &c)
//	})
//
// It adds about 1.2 MB to a plugin.
package jsonconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// Decode reads a configuration into a struct. A key that the struct does not
// have, a value of another type, and anything after the JSON are errors, which
// do not show the values.
func Decode(text string, into any) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("there is no configuration")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			return errors.New("there is more after the configuration's end")
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		if kind.Field == "" {
			return fmt.Errorf("cannot be %s: a map is needed", article(kind.Value))
		}
		return fmt.Errorf("%s: cannot be %s", kind.Field, article(kind.Value))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not JSON: it ends too early")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON: at octet %d: %w", syntax.Offset, err)
	}
	if key, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("unknown key %s", key)
	}
	return err
}

func article(kind string) string {
	switch word, _, _ := strings.Cut(kind, " "); word {
	case "anything":
		return kind
	case "array", "object":
		return "an " + kind
	}
	return "a " + kind
}

// A Duration is written with its unit, such as "90s" or "2h".
type Duration time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	err := json.Unmarshal(b, &text)
	if v, parseErr := time.ParseDuration(text); err == nil && parseErr == nil && v >= 0 {
		*d = Duration(v)
		return nil
	}
	return wrong(d, `anything but a duration, such as "90s" or "2h"`)
}

// A List is texts, or a single one.
type List []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *List) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*l = List{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return wrong(l, "anything but a text or a list of texts")
	}
	*l = many
	return nil
}

// wrong is an error to which package json adds the name of the key.
func wrong(v any, value string) error {
	return &json.UnmarshalTypeError{Value: value, Type: reflect.TypeOf(v)}
}
