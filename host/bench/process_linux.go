package bench

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// A process is watched by what /proc says of it.
type process struct {
	pid  int
	name string
	proc procfs.Proc
}

func openProcess(pid int) (*process, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return nil, err
	}
	name, err := proc.Comm()
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, name: name, proc: proc}
	if p.cpu().total < 0 {
		return nil, fmt.Errorf("its processor time cannot be read")
	}
	return p, nil
}

// cpu returns what the process has used so far; less than nothing if it is gone.
func (p *process) cpu() (c cpu) {
	var ts unix.Timespec
	// Not ticks: they are too coarse for a second of work. This is the clock of
	// clock_getcpuclockid(3).
	const schedClock = 2
	if err := unix.ClockGettime(int32(^p.pid<<3|schedClock), &ts); err != nil {
		return cpu{total: -1}
	}
	c.total = time.Duration(ts.Nano())
	if st, err := p.proc.Stat(); err == nil {
		const tick = 10 * time.Millisecond // USER_HZ is 100 on all of Go's Linux ports
		c.user, c.system = time.Duration(st.UTime)*tick, time.Duration(st.STime)*tick
	}
	return c
}

// resident returns the memory of all together, in bytes. What processes share as
// shared memory counts once.
func resident(watched []*process) (sum int64) {
	var shared uint64
	for _, p := range watched {
		st, err := p.proc.NewStatus()
		if err != nil {
			continue // it is gone, which its CPU time will tell
		}
		sum += int64(st.RssAnon + st.RssFile)
		shared = max(shared, st.RssShmem)
	}
	return sum + int64(shared)
}

func ownCPU() (c cpu) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return c
	}
	c.user, c.system = time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
	c.total = c.user + c.system
	return c
}

// CPUTime returns what a process has used so far.
func CPUTime(pid int) (time.Duration, error) {
	p, err := openProcess(pid)
	if err != nil {
		return 0, err
	}
	return p.cpu().total, nil
}

// Children returns the processes that a process has started, directly.
func Children(pid int) (pids []int, err error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if st, err := p.Stat(); err == nil && st.PPID == pid { // others may be gone by now
			pids = append(pids, p.PID)
		}
	}
	return pids, nil
}

// Machine says what this is: processors, their kind, memory and system, and no names.
func Machine() string {
	text := fmt.Sprintf("%d cores", runtime.NumCPU())
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return text
	}
	if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 && cpus[0].ModelName != "" {
		text += ", " + cpus[0].ModelName
	}
	if m, err := fs.Meminfo(); err == nil && m.MemTotal != nil {
		text += ", " + amount(float64(*m.MemTotal<<10)) + " of memory"
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
		text += ", Linux " + release
	}
	return text
}
