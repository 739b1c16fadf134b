package evloop

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// tlsKeys is one direction of TLS 1.3 with TLS_AES_128_GCM_SHA256 (RFC 8446,
// 5.2 and 7.3): crypto/tls cannot be asked to send a KeyUpdate.
type tlsKeys struct {
	secret, iv []byte
	aead       cipher.AEAD
	seq        uint64
}

// loggedKeys takes the secret with that label from a key log.
func loggedKeys(t *testing.T, log, label string) *tlsKeys {
	t.Helper()
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == label {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k := &tlsKeys{}
			k.use(t, secret)
			return k
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

func (k *tlsKeys) expand(t *testing.T, label string, n int) []byte {
	t.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(info, "tls13 "+label...)
	info = append(info, 0)
	b, err := hkdf.Expand(sha256.New, k.secret, string(info), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (k *tlsKeys) use(t *testing.T, secret []byte) {
	t.Helper()
	k.secret, k.seq = secret, 0
	k.iv = k.expand(t, "iv", 12)
	block, err := aes.NewCipher(k.expand(t, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
}

func (k *tlsKeys) update(t *testing.T) {
	t.Helper()
	k.use(t, k.expand(t, "traffic upd", sha256.Size))
}

func (k *tlsKeys) nonce() []byte {
	n := slices.Clone(k.iv)
	seq := binary.BigEndian.AppendUint64(nil, k.seq)
	for i, b := range seq {
		n[4+i] ^= b
	}
	k.seq++
	return n
}

func (k *tlsKeys) seal(kind byte, b []byte) []byte {
	inner := append(slices.Clone(b), kind)
	header := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(inner)+16))
	return k.aead.Seal(header, k.nonce(), inner, slices.Clone(header))
}

// open returns the first record of c, and what comes after it.
func (k *tlsKeys) open(t *testing.T, c []byte) (kind byte, b, rest []byte) {
	t.Helper()
	if len(c) < 5 {
		t.Fatalf("no record in %d bytes", len(c))
	}
	n := 5 + int(binary.BigEndian.Uint16(c[3:]))
	b, err := k.aead.Open(nil, k.nonce(), c[5:n], c[:5])
	if err != nil {
		t.Fatal(err)
	}
	return b[len(b)-1], b[:len(b)-1], c[n:]
}

// TestTLSFlood has a peer that asks for new keys for ever and reads nothing.
func TestTLSFlood(t *testing.T) {
	p := newTLSPair(t, tls.VersionTLS13)
	if got := p.peer.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("this machine prefers %s", tls.CipherSuiteName(got))
	}
	out := loggedKeys(t, p.keys.String(), "CLIENT_TRAFFIC_SECRET_0")
	for range 8 * tlsAhead / 27 { // an answer is 27 bytes
		c := out.seal(22, []byte{24, 0, 0, 1, 1})
		out.update(t)
		p.h.Data(append(c, out.seal(23, []byte("x"))...))
		if p.inner.c.Closed() {
			if !errors.Is(p.inner.c.err, errTLSFlood) {
				t.Errorf("closed with %v", p.inner.c.err)
			}
			return
		}
	}
	t.Errorf("%d bytes of answers wait", len(p.h.wire.out))
}

// TestTLSKeyUpdate has the peer change its keys after the handshake and ask for
// the same in return (RFC 8446, 4.6.3), also with the message cut in the middle.
func TestTLSKeyUpdate(t *testing.T) {
	const handshakeRecord, dataRecord = 22, 23
	p := newTLSPair(t, tls.VersionTLS13)
	if got := p.peer.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("this machine prefers %s", tls.CipherSuiteName(got))
	}
	out := loggedKeys(t, p.keys.String(), "CLIENT_TRAFFIC_SECRET_0")
	in := loggedKeys(t, p.keys.String(), "SERVER_TRAFFIC_SECRET_0")
	request := []byte{24, 0, 0, 1, 1} // key_update, length 1, update_requested
	want := ""
	for round := range 20 {
		var c []byte
		if round%2 == 0 {
			c = out.seal(handshakeRecord, request)
		} else { // one message in two records
			c = append(out.seal(handshakeRecord, request[:2]), out.seal(handshakeRecord, request[2:])...)
		}
		out.update(t)
		c = append(c, out.seal(dataRecord, []byte("new keys;"))...)
		want += "new keys;"
		for i := range c { // byte by byte
			p.h.Data(c[i : i+1])
		}
		if got := string(p.inner.received); got != want {
			t.Fatalf("round %d: received %q; want %q", round, got, want)
		}
		p.inner.say([]byte("answer"))
		kind, b, rest := in.open(t, p.output(1<<20))
		if kind != handshakeRecord || !slices.Equal(b, []byte{24, 0, 0, 1, 0}) {
			t.Fatalf("round %d: record %d %v; want a KeyUpdate", round, kind, b)
		}
		in.update(t)
		if kind, b, rest = in.open(t, rest); kind != dataRecord || string(b) != "answer" || len(rest) > 0 {
			t.Fatalf("round %d: record %d %q with the new keys, %d bytes after it", round, kind, b, len(rest))
		}
	}
}
