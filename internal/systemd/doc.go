// Package systemd speaks to a service manager: it takes the listening sockets that it
// passed (sd_listen_fds(3)) and tells it how the service is (sd_notify(3)). Without a
// service manager everything here does nothing.
package systemd
