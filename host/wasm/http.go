package wasm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/parley-msrp/parley/sdk/abi"
)

// maxHTTPHeader bounds the header of an answer, in bytes, and maxHTTPHeaders
// the fields of a request.
const (
	maxHTTPHeader  = 16 << 10
	maxHTTPHeaders = 32
)

// ownHeaders are those that the client sets itself: by them one request could
// be made to look like two, or like one for another server.
var ownHeaders = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer", "Keep-Alive", "Proxy-Connection", "Expect",
}

// httpDo asks a web service, until the call's deadline.
func (i *instance) httpDo(r abi.Reader) abi.Errno {
	req, e := i.httpRequest(r)
	if e != 0 {
		return e
	}
	ctx, cancel := context.WithDeadline(i.caller, i.call.deadline)
	defer cancel()
	failed := func() abi.Errno {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return abi.ErrTimedOut
		}
		return abi.ErrIO
	}
	// Not by a Client: it would follow redirects.
	resp, err := i.gen.plugin.host.http.RoundTrip(req.WithContext(ctx))
	if err != nil {
		i.gen.plugin.out.log.Debug("http", "hook", i.hook, "host", req.URL.Host, "err", err)
		return failed()
	}
	defer resp.Body.Close()
	i.result = abi.AppendUint(i.result, abi.FieldStatus, uint64(resp.StatusCode))
	for name, values := range resp.Header {
		for _, v := range values {
			i.result = abi.AppendPair(i.result, abi.FieldHeader, name, strings.ToValidUTF8(v, "\uFFFD"))
		}
	}
	limit := int64(i.gen.set.Message)
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return failed()
	case int64(len(body)) > limit:
		return abi.ErrTooBig
	}
	i.charge(len(body) / octetsPerStep)
	i.result = abi.AppendBytes(i.result, abi.FieldBody, body)
	return 0
}

func (i *instance) httpRequest(r abi.Reader) (*http.Request, abi.Errno) {
	method := "GET"
	var text string
	var body []byte
	header, fields := http.Header{}, 0
	for r.Next() {
		switch r.Field {
		case abi.FieldMethod:
			method = string(r.Text())
		case abi.FieldURI:
			text = string(r.Text())
		case abi.FieldHeader:
			name, value := r.Pair()
			if fields++; fields > maxHTTPHeaders {
				return nil, abi.ErrTooBig
			}
			header.Add(string(name), string(value))
		case abi.FieldBody:
			body = bytes.Clone(r.Bytes())
		}
	}
	u, err := url.Parse(text)
	if r.Err() != nil || err != nil || i.call == nil {
		return nil, abi.ErrInval
	}
	if !allowed(i.gen.grants, u) {
		return nil, abi.ErrPerm
	}
	for _, name := range ownHeaders {
		if _, ok := header[name]; ok { // Add has made the names canonical
			return nil, abi.ErrInval
		}
	}
	// The transport refuses header fields with line breaks and the like.
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
		return nil, abi.ErrInval
	}
	req, err := http.NewRequest(method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, abi.ErrInval
	}
	req.Header = header
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "Parley")
	}
	return req, 0
}
