package jsonconfig_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
)

type config struct {
	Group string              `json:"group"`
	Keep  jsonconfig.Duration `json:"keep"`
	Names jsonconfig.List     `json:"names"`
	Cache struct {
		Size int `json:"size"`
	} `json:"cache"`
}

func TestDecode(t *testing.T) {
	var c config
	if err := jsonconfig.Decode(` {"group": "eu", "keep": "90s", "names": "a", "cache": {"size": 3}} `, &c); err != nil {
		t.Fatal(err)
	}
	if c.Group != "eu" || time.Duration(c.Keep) != 90*time.Second || !slices.Equal(c.Names, []string{"a"}) || c.Cache.Size != 3 {
		t.Errorf("%+v", c)
	}
	if err := jsonconfig.Decode(`{"names": ["a", "b"]}`, &c); err != nil || !slices.Equal(c.Names, []string{"a", "b"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "there is no configuration",
		"users.csv":                  "not JSON: at octet 1",
		`{"group": "eu"`:             "ends too early",
		`{"group": "eu"} {}`:         "more after",
		`"eu"`:                       "cannot be a string: a map is needed",
		`{"grup": "eu"}`:             `unknown key "grup"`,
		`{"group": 7}`:               "group: cannot be a number",
		`{"cache": {"size": "big"}}`: "cache.size: cannot be a string",
		`{"keep": 90}`:               "keep: cannot be anything but a duration",
		`{"keep": "-1s"}`:            "keep: cannot be anything but a duration",
		`{"names": 7}`:               "names: cannot be anything but a text or a list",
		`{"names": [7]}`:             "names: cannot be anything but a text or a list",
		`[]`:                         "cannot be an array",
	} {
		if err := jsonconfig.Decode(text, &config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
