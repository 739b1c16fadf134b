package config

import (
	"errors"
	"io/fs"
	"os"
)

// Sources are where a configuration comes from. The zero value gives the
// defaults, and the mistake that no Sentinel is named.
type Sources struct {
	Flags    *Flags   // nil for none
	Environ  []string // as os.Environ returns it
	ReadFile func(path string) ([]byte, error)
	// Asking says that the configuration is another's, a sidecar's to be asked: of the
	// admin server only what reaches it counts.
	Asking bool
}

// Load reads the configuration, or returns all its mistakes as an [*InvalidError]: of a
// file that can't be read only that, for what seems missing may stand in it. It opens the YAML file, the password files and the TLS files, and nothing else. It may be
// called again, to reload: flags and variables keep their precedence.
func Load(src Sources) (Config, error) {
	l := loader{flags: src.Flags, vars: environ(src.Environ), readFile: src.ReadFile, asking: src.Asking}
	if l.readFile == nil {
		l.readFile = os.ReadFile
	}
	cfg := l.load()
	if len(l.mistakes) > 0 {
		l.mistakes = append(l.mistakes, strangers(l.vars)...) // which may be why
		return Config{}, &InvalidError{Mistakes: l.mistakes}
	}
	return cfg, nil
}

// loader is one run of Load.
type loader struct {
	flags    *Flags
	vars     map[string]string
	readFile func(string) ([]byte, error)
	asking   bool

	doc      document
	mistakes mistakes
}

func (l *loader) load() Config {
	cfg := Config{File: l.file()}
	for _, m := range strangers(l.vars) {
		cfg.Warnings = append(cfg.Warnings, oneLine(m.Origin.Key+" "+m.Problem))
	}
	l.doc = document{top: layer{}, lists: map[string]list{}}
	if cfg.File != "" {
		if l.doc = l.readYAML(cfg.File); l.doc.unread {
			return cfg
		}
	}
	given := l.given()
	l.checkValues(given)
	l.checkOnly(given)

	scratch := nowhere()
	scratch.Config = &cfg
	process := origins{by: map[string]Origin{}}
	for _, s := range settings() {
		if s.scope == ofProcess {
			vs := l.pick(s, given, nil)
			assign(s, scratch, vs)
			if len(vs) > 0 && vs[0].origin != (Origin{}) {
				process.by[s.flag] = vs[0].origin
			}
		}
	}
	l.checkAdmin(&cfg, process)
	l.checkControl(&cfg, process)
	l.webhooks(&cfg, given)
	entries := l.doc.lists[listMasters].entries
	if !l.doc.lists[listMasters].there {
		entries = []entry{{layer: layer{}}} // the one-master form
	}
	var ats []origins
	for _, e := range entries {
		m, at := l.master(&cfg, given, e)
		l.checkMaster(&cfg, &m, at)
		cfg.Masters = append(cfg.Masters, m)
		cfg.Warnings = append(cfg.Warnings, unreachable(cfg, m)...)
		ats = append(ats, at)
	}
	l.checkUnique(cfg, ats)
	l.checkTLSUse(cfg, ats)
	return cfg
}

// file returns the path of the YAML file, or "".
func (l *loader) file() string {
	if v, ok := l.flags.get(configFlag); ok {
		if v[0] == "" {
			l.mistakes.add(Origin{Key: "--" + configFlag}, "found nothing; want a file's path")
		}
		return v[0]
	}
	return l.vars[envPrefix+"CONFIG"]
}

// readYAML returns what a file says. One that can't be read is a mistake.
func (l *loader) readYAML(file string) document {
	b, err := l.readFile(file)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		l.mistakes.add(Origin{File: file}, "cannot read the configuration file: %v", err)
		return document{top: layer{}, lists: map[string]list{}, unread: true}
	}
	return reader{file: file, mistakes: &l.mistakes}.read(b)
}

// given returns what flags and variables say; a flag hides its variable.
func (l *loader) given() layer {
	out := layer{}
	for _, s := range settings() {
		o := Origin{Key: "--" + s.flag}
		vs, ok := l.flags.get(s.flag)
		if !ok {
			v, set := l.vars[s.env()]
			if !set {
				continue
			}
			o, vs = Origin{Key: s.env()}, []string{v}
		}
		for _, v := range vs {
			for _, part := range s.split(v) {
				out[s.flag] = append(out[s.flag], text{value: part, origin: o})
			}
		}
	}
	return out
}

// checkValues parses every value that was written, also those that a stronger
// source hides: a mistake is a mistake.
func (l *loader) checkValues(given layer) {
	layers := []layer{l.doc.top}
	for _, name := range []string{listMasters, listWebhooks} {
		for _, e := range l.doc.lists[name].entries {
			layers = append(layers, e.layer)
		}
	}
	layers = append(layers, given)
	for _, one := range layers {
		for _, s := range settings() {
			l.checkSetting(s, one)
		}
	}
}

// checkSetting parses the values that a layer has of one setting.
func (l *loader) checkSetting(s setting, one layer) {
	for _, t := range one[s.flag] {
		err := s.set(nowhere(), t.value)
		switch {
		case err == nil:
		case s.hidden:
			l.mistakes.add(t.origin, "%v; %s", err, s.want)
		case errors.Is(err, errPlain):
			l.mistakes.add(t.origin, "found %s; %s", quote(t.value), s.want)
		default:
			l.mistakes.add(t.origin, "found %s; %s (%v)", quote(t.value), s.want, err)
		}
	}
}

// checkOnly reports settings that several masters, or webhooks, can't share.
func (l *loader) checkOnly(given layer) {
	for _, s := range settings() {
		name := s.scope.list()
		in := l.doc.lists[name]
		if !s.scope.only() || !in.there {
			continue
		}
		if vs := l.doc.top[s.flag]; len(vs) > 0 {
			l.mistakes.add(vs[0].origin, "the file has %s (line %d); want %s in each entry of it", name, in.origin.Line, s.entryKey())
		}
		if vs := given[s.flag]; len(vs) > 0 && len(in.entries) > 1 {
			l.mistakes.add(vs[0].origin, "the file %s has %d %s; want %s in each entry of %[3]s instead", in.origin.File, len(in.entries), name, s.entryKey())
		}
	}
}

// pick returns a setting's values from the strongest source that has any.
func (l *loader) pick(s setting, given, own layer) []text {
	from := []layer{given, own, l.doc.top}
	several := s.scope.only() && len(l.doc.lists[s.scope.list()].entries) > 1
	if several {
		from = []layer{own} // what is shared has been reported
	}
	for _, one := range from {
		if vs := one[s.flag]; len(vs) > 0 {
			return vs
		}
	}
	if s.def == "" || several {
		return nil
	}
	return s.texts(s.def)
}

// texts returns the values in v, which was written nowhere.
func (s setting) texts(v string) []text {
	var vs []text
	for _, part := range s.split(v) {
		vs = append(vs, text{value: part})
	}
	return vs
}

// origins says where a master's settings came from, by flag.
type origins struct {
	by    map[string]Origin
	entry Origin // of the master itself; zero outside masters
}

// of returns where a setting came from or, if it was not given, where it could
// be.
func (o origins) of(flag string) Origin {
	if at, ok := o.by[flag]; ok {
		return at
	}
	for _, s := range settings() {
		if s.flag != flag {
			continue
		}
		if o.entry.File != "" {
			return Origin{File: o.entry.File, Line: o.entry.Line, Key: o.entry.Key + "." + s.entryKey()}
		}
		return Origin{Key: "--" + flag}
	}
	return Origin{Key: flag}
}

// master resolves one master. Values that don't parse are left out: they have
// been reported.
func (l *loader) master(cfg *Config, given layer, e entry) (Master, origins) {
	var m Master
	at := origins{by: map[string]Origin{}, entry: e.origin}
	for _, s := range settings() {
		if s.scope.list() != listMasters {
			continue
		}
		vs := l.pick(s, given, e.layer)
		assign(s, target{cfg, &m, new(Webhook)}, vs)
		if len(vs) > 0 && vs[0].origin != (Origin{}) {
			at.by[s.flag] = vs[0].origin
		}
	}
	return m, at
}

func assign(s setting, t target, vs []text) {
	for _, v := range vs {
		_ = s.set(t, v.value) // reported by checkValues
	}
}
