package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// errOnce says that what a file held is gone once it was read.
var errOnce = errors.New("it is a pipe, or another thing that is read once")

// ReadSecrets returns cfg with what its password and token files hold now, webhooks'
// too, and a mistake for each that is no good. Such a one keeps the Secret it had. It
// reads those files and nothing else; read may be nil for [os.ReadFile] of files that
// can be read again. Others, such as a shell's <(command), keep their Secret: they were
// read at the start, and reading them now could wait for ever.
func ReadSecrets(cfg Config, read func(path string) ([]byte, error)) (Config, []Mistake) {
	if read == nil {
		read = readAgain
	}
	var bad mistakes
	again := func(path string, secret *Secret, least int) {
		if path == "" {
			return
		}
		s, err := readPassword(read, path)
		if errors.Is(err, errOnce) {
			return
		}
		if err == nil && len(s) < least {
			err = fmt.Errorf("it holds %d characters; want %d or more", len(s), least)
		}
		if err != nil {
			bad.add(Origin{File: path}, "%v", err)
			return
		}
		*secret = s
	}
	again(cfg.Admin.TokenFile, &cfg.Admin.Token, leastToken)
	again(cfg.Control.TokenFile, &cfg.Control.Token, leastToken)
	cfg.Masters = slices.Clone(cfg.Masters) // ours to change
	for i := range cfg.Masters {
		m := &cfg.Masters[i]
		again(m.Redis.PasswordFile, &m.Redis.Password, 1)
		again(m.Sentinel.PasswordFile, &m.Sentinel.Password, 1)
	}
	cfg.Webhooks = slices.Clone(cfg.Webhooks)
	for i := range cfg.Webhooks {
		w := &cfg.Webhooks[i]
		again(w.SecretFile, &w.Secret, 1)
	}
	return cfg, bad
}

// readAgain is os.ReadFile, or errOnce for what is no regular file.
func readAgain(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errOnce
	}
	return os.ReadFile(path)
}
