package proxy

import (
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// sameAsRedis lists bytes of clients, each of one connection, that suites for Redis and
// its clients send and random commands hardly hit. All are answered byte by byte as by
// Redis.
func sameAsRedis() map[string]string {
	many := strings.Repeat("$1\r\na\r\n", 5000)
	nullBytes := frames("CLIENT REPLY skip\x00x", "ECHO skipped", "ECHO a", "CLIENT REPLY OFF\x00", "ECHO off", "CLIENT REPLY on\x00",
		"CLIENT REPLY x\x00on", "CLIENT SETNAME a\x00b", "XREAD BLOCK\x00 10 STREAMS s $", "ECHO end")
	var helloOptions string
	for _, options := range []string{
		"SETNAME foo FOO", "SETNAME x AUTH nosuch bar", "SETNAME y SETNAME \"a b\"", "SETNAME z SETNAME", "AUTH joe p FOO", "AUTH joe p SETNAME",
		"AUTH joe p SETNAME \"a b\"", "AUTH joe p SETNAME n FOO", "AUTH joe p AUTH joe bad", "AUTH joe p SETNAME m AUTH ann q FOO",
		"AUTH joe bad SETNAME o", "SETNAME a AUTH joe p SETNAME b AUTH ann q SETNAME c", "AUTH ann q AUTH joe p AUTH nosuch x SETNAME d",
		"AUTH joe p SETNAME n AUTH joe bad AUTH ann q",
	} {
		const ask = "CLIENT GETNAME\r\nACL WHOAMI\r\nHGETALL none\r\n"
		for _, state := range []string{"", "WATCH k\r\n", "CLIENT REPLY SKIP\r\n"} {
			helloOptions += "RESET\r\n" + state + "HELLO 3 " + options + "\r\n" + ask
		}
	}
	helloOptions = "ACL SETUSER joe reset on >p +@all ~*\r\nACL SETUSER ann reset on >q +@all ~*\r\n" + helloOptions +
		"RESET\r\nACL DELUSER joe ann\r\n"
	return map[string]string{
		"negative bulk length":         "*2\r\n$3\r\nGET\r\n$-5\r\n",
		"bulk length that is no one":   "*2\r\n$3\r\nGET\r\n$blabla\r\n",
		"bulk without a dollar":        "*2\r\n$3\r\nGET\r\n#3\r\nabc\r\n",
		"huge bulk length":             "*2\r\n$3\r\nGET\r\n$2000000000\r\n",
		"huge count":                   "*2147483648\r\n",
		"count that is no number":      "*blabla\r\n",
		"negative count":               "*-10\r\nPING\r\n",
		"no arguments":                 "*0\r\n\r\n\r\nPING\r\n",
		"empty name":                   "*1\r\n$0\r\n\r\nPING\r\n",
		"quotes":                       "SET \"a b\" 'x\\'y'\r\nGET \"a b\"\r\nSET \"\\x00\\n\" 1\r\n",
		"unbalanced quotes":            "SET \"\"\"test-key\"\"\" test-value\r\n",
		"unbalanced quote at the end":  "GET 'a\r\n",
		"only a line feed":             "PING\nPING\n\n",
		"many arguments":               "*5001\r\n$3\r\nDEL\r\n" + many,
		"many arguments too many":      "*5001\r\n$3\r\nGET\r\n" + many,
		"long inline":                  "SET k " + strings.Repeat("v", 60000) + "\r\nSTRLEN k\r\n",
		"unknown with arguments":       "NOSUCH " + strings.Repeat("abcdefghij ", 30) + "\r\nnosuch\r\n\"" + strings.Repeat("x", 300) + "\" a\r\n",
		"unknown with odd bytes":       "*2\r\n$4\r\nno\r\n\r\n$3\r\na\r\n\r\n",
		"unknown subcommand":           "CLIENT NOSUCH\r\nCONFIG nosuch x\r\nOBJECT\r\nXINFO NOSUCH a b\r\nclient\r\nMEMORY FOO\r\nFUNCTION x\r\n",
		"HELLO":                        "HELLO 5\r\nHELLO x\r\nHELLO 3 AUTH\r\nHELLO 3 FOO\r\nHELLO 3 SETNAME\r\nHELLO 3 SETNAME \"a b\"\r\nHELLO 3 AUTH nosuch x\r\n",
		"HELLO option by option":       helloOptions,
		"RESET anywhere":               "RESET\r\nMULTI\r\nSET a 1\r\nRESET\r\nEXEC\r\nSUBSCRIBE c\r\nRESET\r\nGET a\r\nHELLO 3\r\nRESET\r\nHGETALL x\r\nWATCH a\r\nRESET\r\n",
		"RESET of a name":              "CLIENT SETNAME n\r\nSELECT 3\r\nSET k 1\r\nRESET\r\nCLIENT GETNAME\r\nGET k\r\nCLIENT REPLY OFF\r\nRESET\r\nPING\r\n",
		"QUIT in MULTI":                "MULTI\r\nQUIT\r\nPING\r\n",
		"QUIT with arguments":          "QUIT now\r\nPING\r\n",
		"nested MULTI":                 "MULTI\r\nMULTI\r\nWATCH a\r\nEXEC\r\n",
		"EXEC alone":                   "EXEC\r\nDISCARD\r\nEXEC a\r\nMULTI a\r\n",
		"errors in MULTI":              "MULTI\r\nSET a\r\nSET a 1\r\nEXEC\r\nMULTI\r\nNOSUCH\r\nEXEC\r\nMULTI\r\nINCR a\r\nLPUSH a 1\r\nINCR a\r\nEXEC\r\n",
		"WATCH":                        "WATCH\r\nWATCH a\r\nSET a 1\r\nMULTI\r\nGET a\r\nEXEC\r\nWATCH a\r\nUNWATCH\r\nSET a 2\r\nMULTI\r\nGET a\r\nEXEC\r\n",
		"watched in another database":  "SELECT 9\r\nWATCH x\r\nSELECT 10\r\nSET x 1\r\nSELECT 9\r\nMULTI\r\nPING\r\nEXEC\r\n",
		"swapped while watched":        "SELECT 1\r\nSET k v\r\nWATCH k\r\nSWAPDB 0 1\r\nMULTI\r\nPING\r\nEXEC\r\n",
		"blocking in MULTI":            "MULTI\r\nBLPOP q 0\r\nBLMOVE a b LEFT RIGHT 0\r\nXREAD BLOCK 0 STREAMS s $\r\nBZPOPMIN z 0\r\nWAIT 0 0\r\nEXEC\r\n",
		"blocking with bad timeouts":   "BLPOP q x\r\nBLPOP q -1\r\nBLPOP\r\nBLMPOP 0 1\r\nXREAD BLOCK x STREAMS s $\r\nBLPOP q 0.01\r\nBZMPOP 0.01 1 z MIN\r\nBRPOPLPUSH a b 0.01\r\nWAIT 0 10\r\n",
		"blocking behind a wrong type": "SET a 1\r\nBLPOP a 0\r\nBLPOP q a 0\r\nXREAD BLOCK 0 STREAMS a 0\r\n",
		"subscriber mode":              "SUBSCRIBE a\r\nPING\r\nPING x\r\nGET a\r\nCLIENT ID\r\nSELECT 1\r\nHELLO 3\r\nAUTH x\r\nUNSUBSCRIBE\r\nGET a\r\nPING\r\n",
		"subscriber mode in RESP3":     "HELLO 3\r\nSUBSCRIBE a b\r\nPING\r\nGET a\r\nSELECT 1\r\nCLIENT GETNAME\r\nPUBLISH a x\r\nUNSUBSCRIBE a\r\nUNSUBSCRIBE nosuch\r\nUNSUBSCRIBE\r\nUNSUBSCRIBE\r\n",
		"patterns and channels":        "PSUBSCRIBE a* b*\r\nSUBSCRIBE x\r\nPUNSUBSCRIBE a*\r\nUNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nSUNSUBSCRIBE\r\nSSUBSCRIBE s\r\nSUNSUBSCRIBE\r\n",
		"itself in RESP3":              "HELLO 3\r\nPSUBSCRIBE *\r\nSUBSCRIBE a\r\nPUBLISH a hello\r\nMULTI\r\nPUBLISH a one\r\nEXEC\r\nEVAL \"return redis.call('publish','a','two')\" 0\r\n",
		"tracking in RESP2":            "CLIENT TRACKING ON\r\nCLIENT TRACKING ON REDIRECT 99999\r\nCLIENT TRACKING\r\nCLIENT TRACKING MAYBE\r\nCLIENT GETREDIR\r\nCLIENT TRACKINGINFO\r\nCLIENT CACHING YES\r\n",
		"tracking":                     "HELLO 3\r\nCLIENT TRACKING ON\r\nCLIENT TRACKINGINFO\r\nGET a\r\nSET a 1\r\nCLIENT TRACKING ON BCAST\r\nCLIENT TRACKING OFF\r\nCLIENT TRACKING ON BCAST PREFIX a\r\nCLIENT TRACKING ON BCAST PREFIX ab\r\nCLIENT GETREDIR\r\n",
		"tracking OPTIN":               "HELLO 3\r\nCLIENT CACHING YES\r\nCLIENT TRACKING ON OPTIN\r\nCLIENT CACHING NO\r\nCLIENT CACHING YES\r\nGET a\r\nSET a 1\r\nGET a\r\nSET a 2\r\nCLIENT TRACKING ON OPTOUT\r\nCLIENT TRACKINGINFO\r\n",
		"flush under tracking":         "HELLO 3\r\nCLIENT TRACKING ON\r\nGET a\r\nFLUSHDB\r\nGET a\r\nFLUSHALL\r\n",
		"CLIENT":                       "CLIENT\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\nCLIENT SETNAME \"a b\"\r\nCLIENT SETNAME a b\r\nCLIENT SETNAME x\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\nCLIENT GETNAME\r\nCLIENT GETNAME x\r\nCLIENT ID x\r\nCLIENT INFO x\r\n",
		"CLIENT LIST":                  "CLIENT LIST TYPE\r\nCLIENT LIST TYPE nosuch\r\nCLIENT LIST ID\r\nCLIENT LIST ID x\r\nCLIENT LIST x y\r\nCLIENT LIST TYPE replica\r\nCLIENT LIST TYPE pubsub\r\nCLIENT LIST ID 999999999\r\n",
		"CLIENT KILL":                  "CLIENT KILL\r\nCLIENT KILL x\r\nCLIENT KILL 000.000.000.000:0000\r\nCLIENT KILL ID\r\nCLIENT KILL ID x\r\nCLIENT KILL TYPE x\r\nCLIENT KILL USER nosuch\r\nCLIENT KILL ID 1 2\r\nCLIENT KILL ID 10 wrong\r\nCLIENT KILL ID x TYPE\r\nCLIENT KILL TYPE normal ADDR\r\nCLIENT KILL SKIPME x\r\nCLIENT KILL ID 999999999 SKIPME yes\r\nCLIENT KILL MAXAGE x\r\n",
		"CLIENT UNBLOCK":               "CLIENT UNBLOCK\r\nCLIENT UNBLOCK x\r\nCLIENT UNBLOCK 999999999\r\nCLIENT UNBLOCK 999999999 FOO\r\nCLIENT UNBLOCK 1 TIMEOUT x\r\n",
		"CLIENT flags":                 "CLIENT NO-EVICT\r\nCLIENT NO-EVICT x\r\nCLIENT NO-EVICT ON\r\nCLIENT NO-EVICT OFF\r\nCLIENT NO-TOUCH ON\r\nCLIENT SETINFO LIB-NAME x\r\nCLIENT SETINFO\r\nCLIENT SETINFO FOO x\r\nCLIENT SETINFO lib-name \"a b\"\r\n",
		"CLIENT REPLY":                 "CLIENT REPLY\r\nCLIENT REPLY x\r\nCLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY x\r\nNOSUCH\r\nCLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING\r\n",
		"CLIENT REPLY in MULTI": "MULTI\r\nSET a 1\r\nCLIENT REPLY OFF\r\nGET a\r\nEXEC\r\nPING\r\nMULTI\r\nGET a\r\nEXEC\r\nCLIENT REPLY ON\r\nPING\r\n" +
			"MULTI\r\nCLIENT REPLY SKIP\r\nGET a\r\nEXEC\r\nECHO skipped\r\nECHO a\r\nMULTI\r\nCLIENT REPLY x\r\nCLIENT REPLY ON\r\nCLIENT REPLY\r\nEXEC\r\n" +
			"MULTI\r\nMULTI\r\nCLIENT REPLY OFF\r\nGET a\r\nCLIENT REPLY ON\r\nGET a\r\nHGETALL none\r\nEXEC\r\nPING\r\nCLIENT REPLY OFF\r\n" +
			"MULTI\r\nGET a\r\nCLIENT REPLY ON\r\nGET a\r\nSMEMBERS none\r\nEXEC\r\nPING\r\nMULTI\r\nCLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nEXEC\r\n" +
			"ECHO skipped\r\nPING\r\nWATCH a\r\nSET a 2\r\nMULTI\r\nCLIENT REPLY OFF\r\nEXEC\r\nPING\r\nMULTI\r\nCLIENT REPLY OFF\r\nRESET\r\nPING\r\n" +
			"MULTI\r\nCLIENT REPLY OFF\r\nEXEC\r\nRESET\r\nPING\r\n",
		"CLIENT REPLY SKIP":           "CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY SKIP\r\nNOSUCH\r\nPING\r\nCLIENT REPLY SKIP\r\nCLIENT GETNAME\r\nPING\r\nCLIENT REPLY SKIP\r\nSELECT 2\r\nPING\r\n",
		"CLIENT REPLY not allowed":    "ACL SETUSER mute on nopass +@all -client|reply\r\nCLIENT REPLY SKIP\r\nAUTH mute x\r\nCLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\nCLIENT REPLY x\r\n",
		"CLIENT REPLY then forbidden": "ACL SETUSER mute on nopass +@all -client|reply\r\nCLIENT REPLY OFF\r\nAUTH mute x\r\nCLIENT REPLY ON\r\nPING\r\nRESET\r\nPING\r\nCLIENT REPLY SKIP\r\nCLIENT REPLY x\r\nPING\r\n",
		"SELECT":                      "SELECT\r\nSELECT x\r\nSELECT -1\r\nSELECT 16\r\nSELECT 99999999999999999999\r\nSELECT 1 2\r\nSELECT 5\r\nSET a 5\r\nSELECT 0\r\nGET a\r\nMOVE a 5\r\nSWAPDB 0 99\r\n",
		"AUTH":                        "AUTH\r\nAUTH x\r\nAUTH default x\r\nAUTH a b c\r\nAUTH nosuch x\r\nACL WHOAMI\r\n",
		"ACL":                         "ACL\r\nACL WHOAMI x\r\nACL NOSUCH\r\nACL GETUSER nosuch\r\nACL DRYRUN default get a\r\nACL DRYRUN nosuch get a\r\nACL SETUSER x >\r\nACL CAT nosuch\r\n",
		"scripts":                     "EVAL\r\nEVAL \"return 1\"\r\nEVAL \"return 1\" x\r\nEVAL \"return 1\" -1\r\nEVAL \"return 1\" 3 a\r\nEVALSHA x 0\r\nEVAL \"return redis.call('nosuch')\" 0\r\nEVAL \"return redis.call('select', 3)\" 0\r\nEVAL \"return redis.call('subscribe', 'x')\" 0\r\nEVAL \"return redis.call('multi')\" 0\r\nSCRIPT\r\nSCRIPT NOSUCH\r\nSCRIPT EXISTS\r\nSCRIPT KILL\r\nSCRIPT FLUSH x\r\n",
		"script that selects":         "EVAL \"redis.call('select', 4); return redis.call('set', 'in4', 1)\" 0\r\nGET in4\r\nSELECT 4\r\nGET in4\r\n",
		"functions":                   "FUNCTION LIST x\r\nFUNCTION STATS x\r\nFUNCTION DELETE nosuch\r\nFCALL nosuch 0\r\nFCALL f\r\nFUNCTION KILL\r\nFUNCTION LOAD x\r\nFUNCTION FLUSH x\r\nFUNCTION RESTORE x\r\nFUNCTION DUMP x\r\n",
		"OBJECT and MEMORY":           "SET a 1\r\nOBJECT ENCODING a\r\nOBJECT REFCOUNT a\r\nOBJECT FREQ a\r\nOBJECT ENCODING nosuch\r\nOBJECT HELP x\r\nMEMORY USAGE nosuch\r\nMEMORY USAGE a SAMPLES x\r\nOBJECT IDLETIME nosuch\r\n",
		"LATENCY and SLOWLOG":         "LATENCY NOSUCH\r\nLATENCY LATEST x\r\nLATENCY GRAPH nosuch\r\nSLOWLOG\r\nSLOWLOG GET x\r\nSLOWLOG GET -5\r\nSLOWLOG NOSUCH\r\nLATENCY RESET nosuch\r\n",
		"CONFIG":                      "CONFIG GET\r\nCONFIG GET nosuch\r\nCONFIG GET maxmemory-policy\r\nCONFIG SET\r\nCONFIG SET nosuch 1\r\nCONFIG SET maxmemory x\r\nCONFIG RESETSTAT x\r\nCONFIG SET a\r\n",
		"COMMAND":                     "COMMAND COUNT\r\nCOMMAND INFO nosuch get\r\nCOMMAND GETKEYS SET a b\r\nCOMMAND GETKEYS\r\nCOMMAND GETKEYS NOSUCH\r\nCOMMAND DOCS nosuch\r\nCOMMAND LIST FILTERBY x\r\nCOMMAND NOSUCH\r\n",
		"PUBSUB":                      "PUBSUB\r\nPUBSUB CHANNELS\r\nPUBSUB NUMSUB a b\r\nPUBSUB NUMPAT\r\nPUBSUB NOSUCH\r\nPUBSUB SHARDCHANNELS\r\nSPUBLISH a b\r\n",
		"MODULE":                      "MODULE LIST\r\nMODULE LOAD\r\nMODULE LOAD /nosuch\r\nMODULE UNLOAD nosuch\r\nPING\r\n",
		"cluster commands":            "CLUSTER INFO\r\nCLUSTER\r\nASKING\r\nREADONLY\r\nREADWRITE\r\nGET a\r\n",
		"null bytes":                  "*3\r\n$3\r\nSET\r\n$3\r\na\x00b\r\n$4\r\n\r\n\x00\x01\r\n*2\r\n$3\r\nGET\r\n$3\r\na\x00b\r\n",
		"a bar in a name":             "CLIENT|LIST\r\nclient|id a\r\nCLIENT|MAINT_NOTIFICATIONS\r\nCONFIG|GET x\r\nPING\r\n",
		"null bytes behind words":     nullBytes,
		"groups called like options":  "XGROUP CREATE s streams $ MKSTREAM\r\nXREADGROUP GROUP streams block BLOCK 10 STREAMS s >\r\nXREADGROUP GROUP streams group STREAMS s 0\r\nXREADGROUP GROUP streams\r\n",
		"HTTP":                        "POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n",
		"mixed case":                  "gEt a\r\ncLiEnT gEtNaMe\r\nmUlTi\r\npInG\r\neXeC\r\nhElLo 3\r\n",
		"types in RESP3":              "HELLO 3\r\nHSET h a 1\r\nHGETALL h\r\nSADD s a\r\nSMEMBERS s\r\nZADD z 1.5 a\r\nZSCORE z a\r\nZRANGE z 0 -1 WITHSCORES\r\nGET nosuch\r\nEVAL \"redis.setresp(3); return {map={a=1}, x=1}\" 0\r\nEVAL \"return {double=3.5}\" 0\r\nCLIENT GETNAME\r\nDEBUGX\r\nINCRBYFLOAT f 1.5\r\nGEOADD g 1 1 a\r\nGEOPOS g a\r\nXADD x 1-1 a b\r\nXREAD STREAMS x 0\r\nLPOP nosuch 1\r\nBLPOP q 0.001\r\n",
		"PING":                        "PING\r\nPING x\r\nPING x y\r\nECHO\r\nECHO x\r\nTIME x\r\n",
		"MONITOR ended by RESET":      "MONITOR\r\nRESET\r\nPING\r\n",
		"MONITOR in MULTI":            "MULTI\r\nMONITOR\r\nEXEC\r\nPING\r\n",
	}
}

func TestSameAsRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			d := differ{tb: t, node: node, proxy: r.addr}
			for what, said := range sameAsRedis() {
				d.same(what, said+"QUIT\r\n", d.clean)
			}
		})
	}
}

// same sends one connection's bytes both ways, and compares byte by byte.
func (d *differ) same(what, said string, clean func()) {
	d.tb.Helper()
	clean()
	want := d.send(string(d.node.Addr()), []byte(said), []int{len(said)})
	clean()
	got := d.send(d.proxy, []byte(said), []int{len(said)})
	want, got = helloID.ReplaceAll(want, []byte("$1:0")), helloID.ReplaceAll(got, []byte("$1:0"))
	if string(want) == string(got) {
		return
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	d.tb.Errorf("%s:\nRedis says   %s\nthe sidecar  %s", what, tail(want, at), tail(got, at))
}

// Where a login is demanded.
func TestSameAsRedisBeforeLogin(t *testing.T) {
	node := redistest.Single(t, redistest.Options{Password: "secret"})
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			d := differ{tb: t, node: node, proxy: r.addr}
			for _, said := range []string{
				"PING\r\nHELLO\r\nHELLO 3\r\nHELLO 2\r\nHELLO 4\r\n",
				"EXEC\r\nMULTI\r\nGET a\r\nEXEC\r\nexec\r\nDISCARD\r\nWATCH a\r\n",
				"RESET\r\nSELECT 1\r\nSUBSCRIBE x\r\nBLPOP q 0\r\nEXEC\r\n",
			} {
				d.same(said, said+"AUTH secret\r\nEXEC\r\nPING\r\nQUIT\r\n", func() {})
			}
		})
	}
}
