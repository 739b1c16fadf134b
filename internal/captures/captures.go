// Package captures holds recorded sessions of real clients with a real Redis and a
// real Sentinel: seeds for fuzz targets. `go test ./internal/captures -update` records
// them anew.
package captures

import (
	"bufio"
	"bytes"
	"embed"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
)

// MaxBytes is how much of one direction of a connection is kept: what follows,
// such as the rest of a big value, is left out of the file.
const MaxBytes = 6 << 10

//go:embed testdata/*.txt
var files embed.FS

// Piece is what arrived at once.
type Piece struct {
	FromClient bool
	Bytes      []byte
}

// Session is one connection.
type Session struct {
	Name   string // the client and what it did, such as "go-redis-resp3-1"
	Pieces []Piece
}

// Client returns all that the client sent.
func (s Session) Client() []byte { return s.side(true) }

// Server returns all that the server answered.
func (s Session) Server() []byte { return s.side(false) }

func (s Session) side(client bool) []byte { //nolint:revive // the side is what it is asked for
	var b []byte
	for _, p := range s.Pieces {
		if p.FromClient == client {
			b = append(b, p.Bytes...)
		}
	}
	return b
}

// All returns every session, by name.
func All(tb testing.TB) []Session {
	tb.Helper()
	entries, err := files.ReadDir("testdata")
	if err != nil {
		tb.Fatal(err)
	}
	var out []Session
	for _, e := range entries {
		b, err := files.ReadFile(path.Join("testdata", e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		s := Session{Name: strings.TrimSuffix(e.Name(), ".txt")}
		if s.Pieces, err = parse(b); err != nil {
			tb.Fatalf("%s: %v", e.Name(), err)
		}
		out = append(out, s)
	}
	return out
}

// parse reads a file: one piece per line, quoted as in Go, behind > for the client's
// and < for the server's.
func parse(b []byte) ([]Piece, error) {
	var out []Piece
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 16*MaxBytes)
	for n := 1; sc.Scan(); n++ {
		dir, quoted, _ := strings.Cut(sc.Text(), " ")
		s, err := strconv.Unquote(quoted)
		if err != nil || dir != ">" && dir != "<" {
			return nil, fmt.Errorf("line %d: want > or < and a quoted string", n)
		}
		out = append(out, Piece{FromClient: dir == ">", Bytes: []byte(s)})
	}
	return out, sc.Err()
}

// format is what parse reads.
func format(pieces []Piece) []byte {
	var b []byte
	for _, p := range pieces {
		dir := byte('<')
		if p.FromClient {
			dir = '>'
		}
		b = append(b, dir, ' ')
		b = strconv.AppendQuote(b, string(p.Bytes))
		b = append(b, '\n')
	}
	return b
}
