package config

import "os"

// Admin returns where the admin server listens, "" where it is off, by the same
// sources and in the same order as [Load], whatever all other settings say. It is for
// commands that ask a running sidecar. The error tells what is wrong with the file or
// with the setting; the address is then the next that would do.
func Admin(src Sources) (string, error) {
	l := loader{flags: src.Flags, vars: environ(src.Environ), readFile: src.ReadFile}
	if l.readFile == nil {
		l.readFile = os.ReadFile
	}
	l.doc = document{top: layer{}}
	if file := l.file(); file != "" {
		l.doc = l.readYAML(file)
	}
	given := l.given()
	cfg, scratch := Config{}, Master{}
	for _, s := range settings() {
		if s.flag != adminFlag {
			continue
		}
		t := target{&cfg, &scratch, new(Webhook)}
		assign(s, t, s.texts(s.def))
		for _, one := range []layer{l.doc.top, given} { // the stronger one last
			l.checkSetting(s, one)
			assign(s, t, one[s.flag])
		}
	}
	if len(l.mistakes) > 0 {
		return cfg.Admin, &InvalidError{Mistakes: l.mistakes}
	}
	return cfg.Admin, nil
}

// adminFlag is the setting's name.
const adminFlag = "admin"
