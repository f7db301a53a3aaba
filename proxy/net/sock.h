/*
 * sock.h - sockets with the options a proxy wants: non-blocking, close-on-exec, no Nagle delay.
 * Layer: net. Thread: any.
 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include "base/addr.h"

/* A listening socket; -1 with errno. A stale unix socket file is replaced. */
MUST_CHECK int sock_listen(const struct sockaddr_any *at, int backlog);

/* A connected socket in non-blocking mode, its peer in *from; -1 with errno. */
MUST_CHECK int sock_accept(int listener, struct sockaddr_any *from, uint32_t keepalive_s);

/* Starts connecting; -1 with errno. */
MUST_CHECK int sock_connect(const struct sockaddr_any *to, uint32_t keepalive_s);

/* How long sent bytes may stay without acknowledgement (TCP_USER_TIMEOUT); 0: the kernel's own
 * time. Nothing for a unix socket. */
void sock_set_user_timeout(int fd, uint32_t ms);

/* The pending error of a socket (SO_ERROR), 0 for none. */
int sock_error(int fd);

/* The local and the remote address of a socket; len 0 when it has none. */
void sock_local(int fd, struct sockaddr_any *out);
void sock_peer(int fd, struct sockaddr_any *out);

#endif
