// Package config reads what one sentinelproxy process is to do: from flags,
// SENTINELPROXY_* environment variables and a YAML file, in that order of
// precedence, with defaults last.
//
// Every setting is one row of the table in settings.go; flags, variables, YAML
// keys, the reference page and the answer to "can a reload apply it" all come
// from that row. Values stay text with an [Origin] until they are parsed, so
// that a mistake can name the flag, the variable, or the file and line that it
// came from. [Load] reports every mistake at once.
package config
