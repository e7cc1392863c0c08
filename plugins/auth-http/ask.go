package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
)

// names are what the service is told of a request, beside the parameters.
var names = []string{"username", "realm", "listener", "transport", "remote_addr", "tls_sni", "algorithm"}

func known(name string) bool { return slices.Contains(names, name) }

// value is one of names.
func value(r authenticate.Request, name string) string {
	f, _, _ := abi.Lookup(name)
	return r.Text(f)
}

// ask asks the service.
func ask(r authenticate.Request) (answerOf, error) {
	req := parley.HTTPRequest{Method: cfg.Method, URL: fill(cfg.URL, r), Header: []parley.Pair{{Name: "Accept", Text: "application/json"}}}
	if cfg.Token != "" {
		req.Header = append(req.Header, parley.Pair{Name: "Authorization", Text: "Bearer " + cfg.Token})
	}
	for name, text := range cfg.Header {
		req.Header = append(req.Header, parley.Pair{Name: name, Text: text})
	}
	if cfg.Method == "POST" {
		kind := "application/json"
		if cfg.Body == "form" {
			kind = "application/x-www-form-urlencoded"
			req.Body = form(r)
		} else {
			req.Body = document(r)
		}
		req.Header = append(req.Header, parley.Pair{Name: "Content-Type", Text: kind})
	}
	resp, err := parley.HTTP(req)
	switch {
	case err == abi.ErrPerm:
		return answerOf{}, errors.New("the url is not among those of the grant http")
	case err != nil:
		return answerOf{}, fmt.Errorf("the web service cannot be asked: %w", err)
	case resp.Status == 404:
		return answerOf{kind: unknown}, nil
	case resp.Status != 200:
		return answerOf{}, fmt.Errorf("the web service says %d", resp.Status)
	}
	a, err := parse(r, resp.Body)
	if err != nil {
		return answerOf{}, fmt.Errorf("the web service's answer: %w", err)
	}
	return a, nil
}

// fill puts values into the part of the url that is after the question mark.
func fill(text string, r authenticate.Request) string {
	for _, name := range names {
		if hole := "{" + name + "}"; strings.Contains(text, hole) {
			text = strings.ReplaceAll(text, hole, url.QueryEscape(value(r, name)))
		}
	}
	return text
}

func document(r authenticate.Request) []byte {
	params := map[string]any{}
	for _, p := range r.Pairs(abi.FieldParam) {
		switch old := params[p.Name].(type) {
		case nil:
			params[p.Name] = p.Text
		case string:
			params[p.Name] = []string{old, p.Text}
		case []string:
			params[p.Name] = append(old, p.Text)
		}
	}
	doc := map[string]any{"params": params}
	for _, name := range names {
		doc[name] = value(r, name)
	}
	if isHandshake(r) {
		doc["cookie"], doc["bearer"], doc["origin"] = r.Cookie(), r.Bearer(), r.Origin()
	}
	b, _ := json.Marshal(doc) // never fails on texts
	return b
}

func form(r authenticate.Request) []byte {
	values := url.Values{}
	for _, name := range names {
		values.Set(name, value(r, name))
	}
	for _, p := range r.Pairs(abi.FieldParam) {
		values.Add("params."+p.Name, p.Text)
	}
	return []byte(values.Encode())
}

// parse reads what the service says. Keys that it may have beside these mean
// nothing.
func parse(r authenticate.Request, body []byte) (answerOf, error) {
	var said struct {
		Username string // of a handshake
		Password string
		HA1      string
		Deny     *struct {
			Status int
			Reason string
		}
		MaxExpires float64 `json:"max_expires"` // seconds
		Attributes map[string]string
		Limits     map[string]uint64
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return answerOf{}, errors.New("is not the JSON that is expected") // the error might show it
	}
	if n := said.MaxExpires; n < 0 || n > 0 && n < 1 || n > 366*24*3600 {
		return answerOf{}, errors.New("max_expires is not from 1 second to a year")
	}
	a := answerOf{kind: found, maxExpires: time.Duration(said.MaxExpires * float64(time.Second)), attributes: said.Attributes, limits: said.Limits}
	given := func(keys ...bool) (n int) {
		for _, is := range keys {
			if is {
				n++
			}
		}
		return n
	}
	digits := map[string]int{"MD5": 32, "SHA-256": 64}[r.Algorithm()]
	switch {
	case isHandshake(r) && (given(said.Username != "", said.Deny != nil) != 1 || said.Password+said.HA1 != ""):
		return answerOf{}, errors.New("has not exactly one of username and deny")
	case !isHandshake(r) && given(said.Password != "", said.HA1 != "", said.Deny != nil) != 1:
		return answerOf{}, errors.New("has not exactly one of password, ha1 and deny")
	case said.Deny != nil:
		if n := said.Deny.Status; n != 0 && !slices.Contains(statuses, n) {
			return answerOf{}, fmt.Errorf("deny.status: %d is not one of %v", n, statuses)
		}
		return answerOf{kind: denied, status: said.Deny.Status, reason: oneLine(said.Deny.Reason)}, nil
	case isHandshake(r):
		a.username = said.Username
	case said.HA1 != "":
		a.ha1 = strings.ToLower(said.HA1)
		if len(a.ha1) != digits || strings.Trim(a.ha1, "0123456789abcdef") != "" {
			return answerOf{}, fmt.Errorf("ha1 is not %d hex digits, as %s needs", digits, r.Algorithm())
		}
	default:
		// What is kept, and goes through other hands, is a hash that is good for
		// this realm and algorithm only.
		var err error
		if a.ha1, err = r.HA1(said.Password); err != nil {
			return answerOf{}, fmt.Errorf("hash: %w", err)
		}
	}
	return a, nil
}

// statuses are those that a request can be refused with.
var statuses = []int{400, 403, 404, 413, 415, 423, 481, 501, 506}

// oneLine makes a text fit to be a reason: one line of up to 128 bytes.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	for len(s) > 128 {
		cut := strings.LastIndexFunc(s, func(rune) bool { return true }) // the last character
		s = s[:cut]
	}
	return s
}
