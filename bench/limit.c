/*
 * What one thread can do: the least that a server has to ask of the system, as the mark that the subjects are held against.
 *
 *     limit MODE        echo | sink | source | fanout | udp-echo | udp-sink | udp-together
 *
 * Says `port N pid N`, then answers lines on its input, and ends with it:
 *     handled           datagrams until now
 *     send PORT SIZE COUNT [SEGMENTS]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { EVENTS = 1024, MEBI = 1 << 20, BATCH = 64, DATAGRAM = 2048, MOST = 1 << 17 };

typedef struct {
  int fd;
  /* sink: bytes since the last acknowledgement; source: bytes that are still owed. */
  long count;
  /* echo: what the peer has not taken yet. */
  char *held;
  long held_at, held_to;
  int place;
} Peer;

static char buffer[1 << 16];
static int epoll;
static const char *mode;
static Peer *peers[MOST];
static int peer_count;
static long handled;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(Peer *peer, int events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = peer};
  if (epoll_ctl(epoll, operation, peer->fd, &event) != 0) fail("epoll_ctl");
}

static void drop(Peer *peer) {
  close(peer->fd);
  peers[peer->place] = peers[--peer_count];
  peers[peer->place]->place = peer->place;
  free(peer->held);
  free(peer);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EMFILE) return;
      fail("accept4");
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Peer *peer = calloc(1, sizeof *peer);
    peer->fd = fd;
    peer->place = peer_count;
    peers[peer_count++] = peer;
    watch(peer, EPOLLIN, EPOLL_CTL_ADD);
  }
}

/* Sends, keeps what does not go, and reads no more until it has. */
static int pass_on(Peer *peer, const char *data, long size) {
  long sent = send(peer->fd, data, size, MSG_NOSIGNAL);
  if (sent == size) return 1;
  if (sent < 0) {
    if (errno != EAGAIN) return 0;
    sent = 0;
  }
  peer->held = realloc(peer->held, size - sent);
  memcpy(peer->held, data + sent, size - sent);
  peer->held_at = 0;
  peer->held_to = size - sent;
  watch(peer, EPOLLOUT, EPOLL_CTL_MOD);
  return 1;
}

static int write_on(Peer *peer) {
  if (peer->held_to > 0) {
    long sent = send(peer->fd, peer->held + peer->held_at, peer->held_to - peer->held_at, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    peer->held_at += sent;
    if (peer->held_at < peer->held_to) return 1;
    peer->held_to = 0;
  }
  while (peer->count > 0 && mode[1] == 'o') {
    long size = peer->count < (long)sizeof buffer ? peer->count : (long)sizeof buffer;
    long sent = send(peer->fd, buffer, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      watch(peer, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      return 1;
    }
    if (sent < 0) return 0;
    peer->count -= sent;
  }
  watch(peer, EPOLLIN, EPOLL_CTL_MOD);
  return 1;
}

/* 0 when the connection is over. */
static int read_on(Peer *peer) {
  long size = recv(peer->fd, buffer, sizeof buffer, 0);
  if (size <= 0) return size < 0 && errno == EAGAIN;
  switch (mode[1]) {
    case 'c': /* echo */
      return pass_on(peer, buffer, size);
    case 'i': /* sink: one byte for each mebibyte */
      peer->count += size;
      for (; peer->count >= MEBI; peer->count -= MEBI)
        if (send(peer->fd, buffer, 1, MSG_NOSIGNAL) < 0) return 0;
      return 1;
    case 'o': { /* source: a mebibyte for each byte */
      peer->count += size * MEBI;
      return write_on(peer);
    }
    default: /* fanout: to everyone else */
      for (int i = 0; i < peer_count; i++)
        if (peers[i] != peer) send(peers[i]->fd, buffer, size, MSG_NOSIGNAL);
      return 1;
  }
}

static char datagrams[BATCH][DATAGRAM];
static struct sockaddr_in senders[BATCH];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];

static void datagrams_on(int fd, int answer) {
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){datagrams[i], DATAGRAM};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &senders[i], .msg_namelen = sizeof senders[i], .msg_iov = &pieces[i], .msg_iovlen = 1};
  }
  int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
  if (count <= 0) return;
  handled += count;
  if (!answer) return;
  for (int i = 0; i < count; i++) pieces[i].iov_len = messages[i].msg_len;
  sendmmsg(fd, messages, count, 0);
}

/* Segments that were sent together come together, with the size of one of them. */
static void together_on(int fd) {
  union {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } control;
  for (;;) {
    struct iovec piece = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long size = recvmsg(fd, &message, MSG_DONTWAIT);
    if (size < 0) return;
    int segment = 0;
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first != NULL && first->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(first), sizeof segment);
    handled += segment > 0 ? (size + segment - 1) / segment : 1;
  }
}

static void send_datagrams(int port, int size, long count, int segments) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (segments > 1) {
    if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size) != 0) fail("UDP_SEGMENT");
    for (long left = count; left > 0;) {
      int now = left < segments ? (int)left : segments;
      if (sendto(fd, buffer, (size_t)now * size, 0, (struct sockaddr *)&to, sizeof to) < 0) fail("sendto");
      left -= now;
    }
  } else {
    for (int i = 0; i < BATCH; i++) {
      pieces[i] = (struct iovec){buffer, size};
      messages[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    for (long left = count; left > 0;) {
      int sent = sendmmsg(fd, messages, left < BATCH ? (int)left : BATCH, 0);
      if (sent < 0) fail("sendmmsg");
      left -= sent;
    }
  }
  close(fd);
}

/* A line of the input, of which there is never more than one. 0 at its end. */
static int command(void) {
  char line[256];
  long size = read(0, line, sizeof line - 1);
  if (size <= 0) return 0;
  line[size] = 0;
  int port, bytes, segments = 1;
  long count;
  if (sscanf(line, "send %d %d %ld %d", &port, &bytes, &count, &segments) >= 3) {
    send_datagrams(port, bytes, count, segments);
    printf("%ld\n", count);
  } else {
    printf("%ld\n", handled);
  }
  fflush(stdout);
  return 1;
}

int main(int argc, char **argv) {
  mode = argc > 1 ? argv[1] : "echo";
  int udp = strncmp(mode, "udp", 3) == 0;
  int answer = strcmp(mode, "udp-echo") == 0, together = strcmp(mode, "udp-together") == 0;
  struct rlimit most;
  getrlimit(RLIMIT_NOFILE, &most);
  most.rlim_cur = most.rlim_max;
  setrlimit(RLIMIT_NOFILE, &most);

  int listener = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  int on = 1;
  if (together && setsockopt(listener, IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0) fail("UDP_GRO");
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0) fail("bind");
  if (!udp && listen(listener, 4096) != 0) fail("listen");
  getsockname(listener, (struct sockaddr *)&at, &length);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL}, input = {.events = EPOLLIN, .data.ptr = &handled};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting);
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
  printf("port %d pid %d\n", ntohs(at.sin_port), getpid());
  fflush(stdout);

  static struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      Peer *peer = events[i].data.ptr;
      if (peer == NULL) {
        if (together) together_on(listener);
        else if (udp) datagrams_on(listener, answer);
        else accept_all(listener);
      } else if ((void *)peer == (void *)&handled) {
        if (!command()) return 0;
      } else {
        int alive = 1;
        if (events[i].events & EPOLLOUT) alive = write_on(peer);
        if (alive && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) alive = read_on(peer);
        if (!alive) drop(peer);
      }
    }
  }
}
