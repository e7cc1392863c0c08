// Package watch says when files have changed.
//
//	err := watch.Files(ctx, func() []string { return []string{path} }, reload, func(err error) {
//		log.Warn("not renewed, the old one stays in use", "err", err)
//	})
//
// It knows that editors replace files, that Kubernetes replaces links on the
// way to them, and that a file written in place comes in parts. It does not
// read them.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long changes settle, since what belongs together may be several files;
// how long at most, in a directory that never rests; and when to look again at
// what could not be used, for a directory that is gone sends no event when it
// comes back.
const (
	settle    = 200 * time.Millisecond
	settleMax = 2 * time.Second
	lookAgain = time.Minute
)

// Files calls reload soon after it begins, for what may have changed before,
// and whenever one of the files may have changed, until ctx is done; then it
// returns nil. It returns an error, at once, if files cannot be watched.
//
// Reload may be called for nothing, when a neighbour of a file has changed, and
// is called again after a minute while it fails. Files is called before each
// reload. Failed is told of errors, once for each run of equal ones. All three
// run on the goroutine of the caller.
func Files(ctx context.Context, files func() []string, reload func() error, failed func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	if err := addDirs(w, files()); err != nil {
		return err
	}
	timer := time.NewTimer(settle)
	defer timer.Stop()
	var since time.Time // of the first change not yet looked at
	var said string     // the errors last told
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			failed(fmt.Errorf("watch files: %w", err)) // events may be lost
			timer.Reset(settle)
		case <-w.Events:
			if since.IsZero() {
				since = time.Now()
			}
			timer.Reset(min(settle, settleMax-time.Since(since)))
		case <-timer.C:
			since = time.Time{}
			// First the directories, so that no change falls between; and again
			// each time, for links may lead elsewhere now.
			err := errors.Join(addDirs(w, files()), reload())
			if err == nil {
				said = ""
				continue
			}
			timer.Reset(lookAgain)
			if now := err.Error(); now != said {
				said = now
				failed(err)
			}
		}
	}
}

// addDirs watches what a change of any file shows in. It is directories, not
// files: a file that is replaced is another file, and Kubernetes replaces not
// even that, but a link on the way to it.
func addDirs(w *fsnotify.Watcher, files []string) error {
	var errs []error
	for _, file := range files {
		for _, dir := range dirsOf(file) {
			if err := w.Add(dir); err != nil {
				errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// dirsOf returns the directory of file, that of each link on the path to it,
// and that of the file it really is.
func dirsOf(file string) []string {
	dirs := []string{filepath.Dir(file)}
	for dir := dirs[0]; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			dirs = append(dirs, filepath.Dir(dir))
		}
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		dirs = append(dirs, filepath.Dir(target))
	}
	return dirs
}
