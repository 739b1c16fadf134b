package proxy

// Redis' commands by what a lost reply means (FAILOVER.md 6.2: the JSON specs of
// redis/redis and valkey-io/valkey, October 2024, and corrections by experiment).

// sharedReads lists the commands that change nothing: safe to send again, always.
func sharedReads() []string {
	return []string{
		"ACL|CAT", "ACL|DRYRUN", "ACL|GENPASS", "ACL|GETUSER", "ACL|HELP", "ACL|LIST", "ACL|LOG", "ACL|USERS",
		"ACL|WHOAMI", "BITCOUNT", "BITFIELD_RO", "BITPOS", "COMMAND|COUNT", "COMMAND|DOCS", "COMMAND|GETKEYS",
		"COMMAND|GETKEYSANDFLAGS", "COMMAND|HELP", "COMMAND|INFO", "COMMAND|LIST", "CONFIG|GET", "CONFIG|HELP",
		"DBSIZE", "DIGEST", "DUMP", "EXISTS", "EXPIRETIME", "FCALL_RO", "FUNCTION|DUMP",
		"FUNCTION|HELP", "FUNCTION|LIST", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUSBYMEMBER_RO",
		"GEORADIUS_RO", "GEOSEARCH", "GET", "GETBIT", "GETRANGE", "HEXISTS", "HEXPIRETIME", "HGET", "HGETALL",
		"HKEYS", "HLEN", "HMGET", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSTRLEN", "HTTL", "HVALS", "INFO",
		"LASTSAVE", "LATENCY|DOCTOR", "LATENCY|GRAPH", "LATENCY|HELP", "LATENCY|HISTOGRAM", "LATENCY|HISTORY",
		"LATENCY|LATEST", "LATENCY|RESET", "LCS", "LINDEX", "LLEN", "LOLWUT", "LPOS", "LRANGE", "MEMORY|DOCTOR",
		"MEMORY|HELP", "MEMORY|MALLOC-STATS", "MEMORY|PURGE", "MEMORY|STATS", "MEMORY|USAGE", "MGET", "MODULE|HELP",
		"MODULE|LIST", "OBJECT|ENCODING", "OBJECT|FREQ", "OBJECT|HELP", "OBJECT|IDLETIME", "OBJECT|REFCOUNT",
		"PEXPIRETIME", "PFCOUNT", "PTTL", "PUBSUB|CHANNELS", "PUBSUB|HELP", "PUBSUB|NUMPAT", "PUBSUB|NUMSUB",
		"PUBSUB|SHARDCHANNELS", "PUBSUB|SHARDNUMSUB", "RANDOMKEY", "ROLE", "SCARD", "SCRIPT|EXISTS",
		"SCRIPT|HELP", "SCRIPT|SHOW", "SDIFF", "SINTER", "SINTERCARD", "SISMEMBER", "SLOWLOG|GET", "SLOWLOG|HELP",
		"SLOWLOG|LEN", "SLOWLOG|RESET", "SMEMBERS", "SMISMEMBER", "SORT_RO", "SRANDMEMBER", "STRLEN",
		"SUBSTR", "SUNION", "TIME", "TOUCH", "TTL", "TYPE", "VCARD", "VDIM", "VEMB", "VGETATTR", "VINFO",
		"VISMEMBER", "VLINKS", "VRANDMEMBER", "VRANGE", "VSIM", "XGROUP|HELP", "XINFO|CONSUMERS", "XINFO|GROUPS",
		"XINFO|HELP", "XINFO|STREAM", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZDIFF",
		"ZINTER", "ZINTERCARD", "ZLEXCOUNT", "ZMSCORE", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE",
		"ZRANK", "ZREVRANGE", "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCORE", "ZUNION",
	}
}

// sharedSameState lists the writes that end in the same state when they run twice,
// but may answer otherwise.
func sharedSameState() []string {
	return []string{
		"COPY", "DEL", "DELEX", "DELIFEQ", "GEOADD", "GETDEL", "GETEX", "GETSET", "HDEL", "HGETDEL", "HGETEX",
		"HSET", "HSETEX", "HSETNX", "MOVE", "MSETNX", "PERSIST", "PFADD", "RENAME", "RENAMENX", "RESTORE", "SADD",
		"SETBIT", "SETNX", "SMOVE", "SREM", "UNLINK", "VADD", "VREM", "VSETATTR", "XACK", "XACKDEL", "XDEL",
		"XDELEX", "XGROUP|CREATE", "XGROUP|CREATECONSUMER", "XGROUP|DELCONSUMER", "XGROUP|DESTROY", "XGROUP|SETID",
		"XSETID", "ZADD", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE",
		"EXPIREAT", "HEXPIRE", "HEXPIREAT", "HPEXPIRE", "HPEXPIREAT", "HPERSIST", "PEXPIREAT", "XTRIM",
	}
}

// sharedWrites lists the writes that do more when they run twice.
func sharedWrites() []string {
	return []string{
		"APPEND", "BITFIELD", "DECR", "DECRBY", "FCALL", "FUNCTION|DELETE",
		"FUNCTION|FLUSH", "FUNCTION|LOAD", "FUNCTION|RESTORE", "HINCRBY", "HINCRBYFLOAT", "INCR",
		"INCRBY", "INCRBYFLOAT", "LINSERT", "LMOVE", "LMPOP", "LPOP", "LPUSH", "LPUSHX", "LREM", "LTRIM", "PUBLISH",
		"RESTORE-ASKING", "RPOP", "RPOPLPUSH", "RPUSH", "RPUSHX", "SCRIPT|FLUSH", "SFLUSH", "SPOP", "SPUBLISH",
		"XADD", "XAUTOCLAIM", "XCLAIM", "ZINCRBY", "ZMPOP", "ZPOPMAX", "ZPOPMIN",
	}
}

// sharedNever lists what must not run twice on any terms.
func sharedNever() []string { return []string{"FLUSHALL", "FLUSHDB", "SWAPDB"} }

// wideCommands lists what depends on more than the keys it names, among that
// which may be sent again.
func wideCommands() []string {
	return []string{
		"DBSIZE", "EVALSHA_RO", "EVAL_RO", "FCALL_RO", "KEYS", "RANDOMKEY", "SCAN", "SCRIPT|EXISTS", "SORT", "SORT_RO",
	}
}

// admitting lists what may change whom Redis lets in, with which password.
func admitting() []string { return []string{"ACL|DELUSER", "ACL|LOAD", "ACL|SETUSER", "CONFIG|SET"} }

// sharedAdmin lists what acts on the node alone.
func sharedAdmin() []string {
	return []string{
		"ACL|DELUSER", "ACL|LOAD", "ACL|SAVE", "ACL|SETUSER", "BGREWRITEAOF", "BGSAVE", "CONFIG|RESETSTAT",
		"CONFIG|REWRITE", "CONFIG|SET", "SAVE",
	}
}
