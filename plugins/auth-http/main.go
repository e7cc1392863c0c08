// Command auth-http is a plugin that answers authenticate by asking a web service.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
)

type config struct {
	URL    string            `json:"url"`
	Method string            `json:"method"`
	Body   string            `json:"body"`
	Token  string            `json:"token"`
	Header map[string]string `json:"header"`
	// Handshakes: the service is asked about the cookies and tokens of WebSockets, too.
	Handshakes bool `json:"handshakes"`
	Cache      struct {
		Positive   jsonconfig.Duration `json:"positive"`
		Negative   jsonconfig.Duration `json:"negative"`
		Stale      jsonconfig.Duration `json:"stale"`
		PerAddress bool                `json:"per_address"`
	} `json:"cache"`
}

// notOurs are header fields that the relay sets itself, or this plugin.
var notOurs = []string{
	"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "proxy-connection", "expect",
	"content-type", "accept",
}

// What is in use.
var (
	cfg   config
	cache store
)

func init() {
	parley.OnLoad(load)
	authenticate.Handle(answer)
}

func main() {}

func load(text string) error {
	c := config{Method: "POST", Body: "json"}
	if err := jsonconfig.Decode(text, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	// A cache of what another configuration has asked for is of no use.
	digest, err := parley.Hash(parley.SHA256, []byte(text))
	if err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	cfg = c
	cache = store{
		config:   string(digest),
		positive: time.Duration(c.Cache.Positive), negative: time.Duration(c.Cache.Negative), stale: time.Duration(c.Cache.Stale),
	}
	return nil
}

func (c *config) check() error {
	address, query, _ := strings.Cut(c.URL, "?")
	u, err := url.Parse(address)
	switch {
	case c.URL == "":
		return errors.New("url: is needed")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Contains(c.URL, "#"):
		return errors.New("url: write it as https://hr.example/auth")
	case strings.ContainsAny(address, "{}"):
		return errors.New("url: {…} can only stand after the question mark")
	}
	for _, rest := range strings.Split(query, "{")[1:] {
		name, _, ok := strings.Cut(rest, "}")
		if !ok || !known(name) {
			return fmt.Errorf("url: {%s} is not one of {%s}", name, strings.Join(names, "}, {"))
		}
	}
	switch {
	case c.Method != "GET" && c.Method != "POST":
		return fmt.Errorf("method: %q is not GET or POST", c.Method)
	case c.Method == "GET" && !strings.Contains(query, "{username}"):
		return errors.New("url: with method GET, it needs {username} after the question mark")
	case c.Body != "json" && c.Body != "form":
		return fmt.Errorf("body: %q is not json or form", c.Body)
	case c.Handshakes && (c.Method != "POST" || c.Body != "json"):
		return errors.New("handshakes: need method POST and body json")
	case strings.ContainsAny(c.Token, " \r\n\t"):
		return errors.New("token: has spaces or line breaks")
	case c.Token != "" && u.Scheme == "http":
		parley.Warn("url: http without TLS shows the token to everybody on the way")
	}
	for name, value := range c.Header {
		if name == "" || strings.ContainsAny(name, ": \r\n\t") || strings.ContainsAny(value, "\r\n") {
			return fmt.Errorf("header: %q is not a header field", name)
		}
		if slices.Contains(notOurs, strings.ToLower(name)) {
			return fmt.Errorf("header: %s cannot be set here", name)
		}
	}
	if c.Cache.Stale > 0 && c.Cache.Positive == 0 {
		return errors.New("cache.stale: needs cache.positive")
	}
	if !parley.Feature(abi.ServiceHTTP) {
		return errors.New("needs the grant http, with the url")
	}
	if (c.Cache.Positive > 0 || c.Cache.Negative > 0) && !parley.Feature(abi.ServiceKVSet) {
		return errors.New("cache: needs the grant kv")
	}
	return nil
}

// answer asks the cache, and the service if that does not know, and again the
// cache if the service is down.
func answer(r authenticate.Request) authenticate.Reply {
	if isHandshake(r) {
		return answerHandshake(r)
	}
	key, err := cache.key(r)
	if err != nil {
		return authenticate.Fail("hash: " + err.Error())
	}
	fresh, ok := cache.get(key)
	if ok && cache.trust(key, r, &fresh) {
		count("hit")
		return fresh.reply()
	}
	a, err := ask(r)
	if err == nil {
		count("miss")
		cache.put(key, &a)
		return a.reply()
	}
	if !ok {
		fresh, ok = cache.getStale(key)
	}
	if ok {
		parley.Warn(err.Error() + "; the last answer goes on")
		count("stale")
		return fresh.reply()
	}
	count("error")
	return authenticate.Fail(err.Error())
}

// isHandshake: r is of a WebSocket; an AUTH has its own method.
func isHandshake(r authenticate.Request) bool { return r.Method() == "GET" }

// answerHandshake asks the service, whose answer is not kept: a session that it has
// ended must be over.
func answerHandshake(r authenticate.Request) authenticate.Reply {
	if !cfg.Handshakes {
		return authenticate.Next() // the digests of AUTHs will tell
	}
	a, err := ask(r)
	if err != nil {
		count("error")
		return authenticate.Fail(err.Error())
	}
	count("miss")
	return a.reply()
}

// count counts; that it could not is no reason to refuse anybody.
func count(result string) { _ = parley.Count("lookups_total", 1, "result", result) }
