package sentineltest

import "strconv"

const (
	noAuth      = "NOAUTH Authentication required."
	noAuthHello = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	wrongPass   = "WRONGPASS invalid username-password pair or user is disabled."
	badName     = "ERR Client names cannot contain spaces, newlines or special characters."
)

func (s *server) loggedIn(c *conn) bool {
	if c.user == "" && len(s.users) == 0 {
		c.user = "default"
	}
	return c.user != ""
}

// login checks a password and remembers the user. Like Redis it takes any
// password for a default user that has none, and keeps the old login on failure.
func (s *server) login(c *conn, user, password string) bool {
	want, known := s.users[user]
	if user == "default" && len(s.users) == 0 {
		known, want = true, password
	}
	if !known || want != password {
		return false
	}
	c.user = user
	return true
}

func (s *server) auth(c *conn, r *reply, args []string) {
	user, password := "default", args[len(args)-1]
	switch len(args) {
	case 2:
		if _, has := s.users["default"]; !has {
			r.err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
			return
		}
	case 3:
		user = args[1]
	case 1:
		r.wrongArity("auth")
		return
	default:
		r.err("ERR syntax error")
		return
	}
	if !s.login(c, user, password) {
		r.err(wrongPass)
		return
	}
	r.simple("OK")
}

func (s *server) hello(c *conn, r *reply, args []string, role string) {
	proto := 2
	if r.resp3 {
		proto = 3
	}
	rest := args[1:]
	if len(rest) > 0 {
		n, err := strconv.Atoi(rest[0])
		if err != nil {
			r.err("ERR Protocol version is not an integer or out of range")
			return
		}
		if n < 2 || n > 3 {
			r.err("NOPROTO unsupported protocol version")
			return
		}
		proto, rest = n, rest[1:]
	}
	var user, password, name string
	var named bool
	for len(rest) > 0 {
		switch opt := upper(rest[0]); {
		case opt == "AUTH" && len(rest) >= 3:
			user, password, rest = rest[1], rest[2], rest[3:]
		case opt == "SETNAME" && len(rest) >= 2:
			name, named, rest = rest[1], true, rest[2:]
		default:
			r.err("ERR Syntax error in HELLO option '" + oneLine(rest[0]) + "'")
			return
		}
	}
	if named && !validName(name) {
		r.err(badName)
		return
	}
	if user != "" && !s.login(c, user, password) {
		r.err(wrongPass)
		return
	}
	if !s.loggedIn(c) {
		r.err(noAuthHello)
		return
	}
	c.mu.Lock()
	c.resp3 = proto == 3
	if named {
		c.name = name
	}
	c.mu.Unlock()
	if c.sess != nil {
		c.sess.peer.Resp3 = proto == 3
	}
	r.resp3 = proto == 3
	s.helloFields(c, r, proto, role)
}

func (s *server) helloFields(c *conn, r *reply, proto int, role string) {
	fields := 7
	if role == "" {
		fields = 6
	}
	r.dict(fields)
	for _, kv := range [][2]string{{"server", "redis"}, {"version", version}} {
		r.bulk(kv[0])
		r.bulk(kv[1])
	}
	r.bulk("proto")
	r.integer(int64(proto))
	r.bulk("id")
	r.integer(c.id)
	r.bulk("mode")
	r.bulk(s.mode)
	if role != "" {
		r.bulk("role")
		r.bulk(role)
	}
	r.bulk("modules")
	r.array(0)
}

func validName(name string) bool {
	for _, ch := range []byte(name) {
		if ch < '!' || ch > '~' {
			return false
		}
	}
	return true
}
