//go:build unix

package redistest

import "syscall"

func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

func (p *process) sigterm() error { return p.signal(syscall.SIGTERM) }
func (p *process) sigstop() error { return p.signal(syscall.SIGSTOP) }
func (p *process) sigcont() error { return p.signal(syscall.SIGCONT) }
