package limit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// saveDelay is how long after a change the file is written, so that a storm of
// bans is one write.
const saveDelay = 5 * time.Second

// saveAgain is how long after a write that failed the next one is tried.
const saveAgain = time.Minute

// maxFile bounds what is read, in bytes.
const maxFile = 64 << 20

// A banFile is what the file holds, as JSON.
type banFile struct {
	Version int        `json:"parley_bans"`
	Bans    []savedBan `json:"bans"`
}

type savedBan struct {
	Ban
	// Seconds is how long it lasts in all.
	Seconds int64 `json:"seconds"`
}

// load reads the file. One that is damaged is put aside: it may be another file
// altogether, named by mistake, which must not be overwritten.
func (b *Bans) load() error {
	if b.cfg().File == "" {
		return nil
	}
	f, err := os.Open(b.cfg().File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the bans: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("read the bans: %w", err)
	}
	saved, err := parseFile(text)
	if err != nil {
		aside := b.cfg().File + ".damaged"
		b.log.Warn("the file of bans is damaged: starting without", "file", b.cfg().File, "kept_as", aside, "err", err)
		if err := os.Rename(b.cfg().File, aside); err != nil {
			return fmt.Errorf("put the damaged file of bans aside: %w", err)
		}
		return nil
	}
	b.restore(saved)
	return nil
}

// parseFile reads what appendFile has written.
func parseFile(text []byte) ([]savedBan, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	var f banFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("parley_bans is %d, not 1", f.Version)
	}
	for i, x := range f.Bans {
		switch {
		case !x.Address.IsValid() || x.Address.Addr().Is4In6():
			return nil, fmt.Errorf("bans.%d: no address", i)
		case x.Times < 1:
			return nil, fmt.Errorf("bans.%d: %d times", i, x.Times)
		case x.Seconds < 1 || x.Seconds > int64(maxBan/time.Second):
			return nil, fmt.Errorf("bans.%d: %d seconds", i, x.Seconds)
		}
	}
	return f.Bans, nil
}

// restore takes over what still counts, within the settings of today. It is for
// NewBans.
func (b *Bans) restore(saved []savedBan) {
	now := time.Now()
	for _, s := range saved {
		peer, ok := b.cfg().Addresses.Peer(s.Address.Addr())
		if !ok || s.Address.Bits() < peer.Bits() {
			continue // exempt by now, or more addresses then than are one peer now
		}
		x := ban{until: s.Until, length: min(time.Duration(s.Seconds)*time.Second, b.cfg().maxTime()), times: s.Times}
		if latest := now.Add(x.length); x.until.After(latest) {
			x.until = latest // the clock went back, or the setting did
		}
		if x.forgotten(now) || len(b.bans) >= b.cfg().entries() {
			continue
		}
		if old, ok := b.bans[peer]; !ok || old.until.Before(x.until) {
			b.bans[peer] = x
		}
	}
}

// changed has the file written soon. b.mu is held.
func (b *Bans) changed() {
	if b.cfg().File != "" && b.save == nil && !b.closed {
		b.save = time.AfterFunc(saveDelay, b.write)
	}
}

// Close writes the file if it is not up to date. What changes later is lost.
func (b *Bans) Close() {
	b.mu.Lock()
	dirty := b.save != nil
	if dirty {
		b.save.Stop()
	}
	b.mu.Unlock()
	if dirty {
		b.write()
	}
	b.mu.Lock()
	b.closed = true
	if b.save != nil {
		b.save.Stop() // it failed
	}
	b.mu.Unlock()
}

// write writes the file.
func (b *Bans) write() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	if b.save == nil || b.closed {
		b.mu.Unlock()
		return // another write was there first
	}
	b.save = nil
	f := banFile{Version: 1, Bans: []savedBan{}}
	now := time.Now()
	for peer, x := range b.bans {
		if !x.forgotten(now) {
			f.Bans = append(f.Bans, savedBan{Ban{peer, x.until.UTC(), x.times}, int64((x.length + time.Second - 1) / time.Second)})
		}
	}
	b.mu.Unlock()
	if err := writeFile(b.cfg().File, &f); err != nil {
		b.log.Warn("the bans were not saved", "file", b.cfg().File, "err", err, "retry_in", saveAgain)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.save == nil && !b.closed {
			b.save = time.AfterFunc(saveAgain, b.write)
		}
	}
}

// writeFile replaces a file at once: after a crash there is the old one or the
// new one, whole.
func writeFile(name string, f *banFile) (err error) {
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	// CreateTemp makes it readable by us alone: who came when is personal.
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // it is of no use
	}
	return err
}
