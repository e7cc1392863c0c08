package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	parley "github.com/parley-msrp/parley/sdk/go"
)

// parseHTDigest reads lines of user:realm:hash.
func parseHTDigest(text string) (table, error) {
	t := table{users: make(map[name]*user, strings.Count(text, "\n")+1)}
	var bad faults
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		// A realm may have colons, a user cannot.
		i := strings.LastIndexByte(line, ':')
		username, realm, ok := strings.Cut(line[:max(i, 0)], ":")
		u := &user{line: n}
		err := errors.New("not user:realm:hash")
		if ok && username != "" && realm != "" {
			if err = u.setHA1(line[i+1:]); err == nil {
				err = t.add(name{username, realm}, u)
			}
		}
		if err != nil && bad.add(n, err) {
			break
		}
	}
	return t, bad.err()
}

// columns are the names of CSV's columns. What is not one of own is an attribute.
type columns []string

var own = columns{"user", "realm", "password", "ha1", "max_expires"}

// plainColumns are those of a text that does not name them.
var plainColumns = columns{"user", "realm", "password"}

// headerOf reads a first line as the names of columns, if it is one.
func headerOf(record []string) (columns, bool, error) {
	names := make(columns, len(record))
	for i, cell := range record {
		names[i] = strings.TrimSpace(cell)
	}
	if !slices.Contains(names, "user") || !slices.Contains(names, "password") && !slices.Contains(names, "ha1") {
		return plainColumns, false, nil
	}
	for i, n := range names {
		if n == "" || slices.Contains(names[:i], n) {
			return nil, true, fmt.Errorf("column %d has no name, or one that is there already", i+1)
		}
	}
	return names, true, nil
}

// parseCSV reads CSV (RFC 4180), in which lines that begin with # are skipped.
func parseCSV(text string) (table, error) {
	t := table{users: make(map[name]*user, strings.Count(text, "\n")+1)}
	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\uFEFF"))) // spreadsheets write one
	in.Comment = '#'
	in.FieldsPerRecord = -1 // checked below, to go on after a fault
	in.ReuseRecord = true
	var bad faults
	var cols columns
	for first := true; ; first = false {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			bad.add(syntax.StartLine, syntax.Err) // where the next line begins is not known
			break
		}
		line, _ := in.FieldPos(0)
		if first {
			var header bool
			if cols, header, err = headerOf(record); err != nil {
				bad.add(line, err)
				break
			}
			if header {
				for _, c := range cols {
					if !slices.Contains(own, c) {
						t.attributes = append(t.attributes, c)
					}
				}
				continue
			}
		}
		key, u, err := cols.user(record)
		if err == nil {
			u.line = line
			err = t.add(key, u)
		}
		if err != nil && bad.add(line, err) {
			break
		}
	}
	return t, bad.err()
}

// user reads a line.
func (c columns) user(record []string) (key name, u *user, err error) {
	if len(record) != len(c) {
		return key, nil, fmt.Errorf("%d columns, not %d (%s)", len(record), len(c), strings.Join(c, ", "))
	}
	u = &user{}
	ha1 := ""
	for i, column := range c {
		cell := record[i]
		switch {
		case column == "user":
			key.user = cell
		case column == "realm":
			key.realm = cell
		case column == "password":
			u.password = cell
		case column == "ha1":
			ha1 = strings.TrimSpace(cell)
		case cell == "":
		case column == "max_expires":
			d, err := time.ParseDuration(strings.TrimSpace(cell))
			if err != nil || d < time.Second {
				return key, nil, errors.New(`max_expires is not a duration of a second or more, such as 10m`)
			}
			u.maxExpires = d
		default:
			u.attributes = append(u.attributes, parley.Pair{Name: column, Text: cell})
		}
	}
	switch {
	case key.user == "":
		err = errors.New("there is no user")
	case u.password != "" && ha1 != "":
		err = errors.New("there are both password and ha1")
	case u.password == "" && ha1 == "":
		err = errors.New("there is neither password nor ha1")
	case ha1 != "" && key.realm == "":
		err = errors.New("there is no realm, which a hash is made for")
	case ha1 != "":
		err = u.setHA1(ha1)
	}
	return key, u, err
}
