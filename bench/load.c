/*
 * What loads the servers: one thread, one epoll descriptor. Each line on its input is a command, each answered by a line of JSON.
 *
 *     connect NAME PORT CONNECTIONS SIZE
 *     echo NAME REQUESTS DEPTH            REQUESTS on each connection, DEPTH of them on their way at a time
 *     paced NAME RATE MILLISECONDS        so many a second over all connections, whatever the answers do
 *     fanout NAME ROUNDS                  the first speaks, all others listen
 *     push NAME MEBIBYTES                 to a server that answers one byte for each
 *     pull NAME MEBIBYTES                 from a server that sends one for each byte
 *     close NAME
 *     requests PORT COUNT PARALLEL SIZE   connect, ask, be answered, close
 *     udp NAME PORT CLIENTS SIZE          datagrams of so many sockets
 *     udp-echo NAME REQUESTS
 *     flood PORT COUNT SIZE SEGMENTS      so many in one call, which the system cuts up
 *     receive                             opens a socket that takes datagrams; answers its port
 *     received                            datagrams and bytes it has taken
 *
 * Times are nanoseconds. Each message begins with its length less four, in four bytes, so that framed servers take the same load.
 * The latency of a paced request counts from when it was due.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { EVENTS = 1024, MEBI = 1 << 20, BATCH = 64, RING = 256, NAMES = 64, BUFFER = 1 << 18 };
/* A server that says nothing for so many milliseconds has met a fault; a datagram counts as lost after a tenth of a second. */
enum { SILENCE = 20000, LOST = 100 };

typedef struct {
  int fd;
  int blocked;
  /* Bytes to send, bytes sent and received in all, requests still to be made. */
  int64_t owed, sent, received, left;
  uint32_t outstanding, head;
  uint64_t *since;
} Client;

typedef struct {
  char name[128];
  int epoll, count, size, chunk;
  char *message;
  Client *clients;
} Target;

static Target targets[NAMES];
static char inbox[BUFFER];

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(const char *what) {
  printf("{\"error\":\"%s: %s\"}\n", what, errno ? strerror(errno) : "silence");
  fflush(stdout);
  exit(1);
}

/* Counts by time, 64 steps to each power of two: within 1.6 %. */
static uint32_t histogram[64 * 64];
static uint64_t recorded;

static void forget(void) {
  memset(histogram, 0, sizeof histogram);
  recorded = 0;
}

static void record(uint64_t ns) {
  int power = ns < 64 ? 0 : 63 - __builtin_clzll(ns) - 5;
  histogram[power == 0 ? ns : (uint64_t)power * 64 + ((ns >> (power - 1)) & 63)]++;
  recorded++;
}

static double percentile(double share) {
  uint64_t wanted = (uint64_t)(share * (double)recorded), seen = 0;
  for (int i = 0; i < 64 * 64; i++) {
    seen += histogram[i];
    if (seen > wanted) return i < 64 ? i : (double)(64 + i % 64) * (double)(1ull << (i / 64 - 1));
  }
  return 0;
}

static void report(uint64_t time, int64_t requests) {
  printf("{\"ns\":%llu,\"requests\":%lld,\"p50\":%.0f,\"p99\":%.0f,\"p999\":%.0f}\n", (unsigned long long)time, (long long)requests,
         percentile(0.5), percentile(0.99), percentile(0.999));
}

static Target *find(const char *name) {
  for (int i = 0; i < NAMES; i++)
    if (strcmp(targets[i].name, name) == 0) return &targets[i];
  errno = ENOENT;
  fail(name);
  return NULL;
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void one(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

/* From several addresses, as one has ports for less than 30,000 connections to one server. */
static int dial(int port, unsigned turn, int type) {
  int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  struct sockaddr_in from = loopback(0), to = loopback(port);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn % 64);
  if ((type & 0xf) == SOCK_STREAM) {
    one(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    one(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0) fail("bind");
  }
  if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) fail("connect");
  return fd;
}

static void watch(Target *target, Client *client, int events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = client};
  if (epoll_ctl(target->epoll, operation, client->fd, &event) != 0) fail("epoll_ctl");
}

static void open_target(const char *name, int port, int count, int size, int type) {
  Target *target = find("");
  snprintf(target->name, sizeof target->name, "%s", name);
  target->epoll = epoll_create1(EPOLL_CLOEXEC);
  target->count = count;
  target->size = size;
  target->clients = calloc(count, sizeof *target->clients);
  target->chunk = BUFFER / size * size;
  target->message = malloc(target->chunk);
  memset(target->message, 'a', target->chunk);
  for (int i = 0; size >= 4 && i < target->chunk; i += size) *(uint32_t *)(target->message + i) = htonl(size - 4);
  for (int i = 0; i < count; i++) {
    Client *client = &target->clients[i];
    client->fd = dial(port, i / 1000, type);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    /* With a reset: ten thousand connections that wait for stray segments would be in the way of what is measured next. */
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    client->since = type == SOCK_STREAM ? malloc(RING * sizeof *client->since) : NULL;
    watch(target, client, EPOLLIN, EPOLL_CTL_ADD);
  }
}

static void close_target(Target *target) {
  for (int i = 0; i < target->count; i++) {
    close(target->clients[i].fd);
    free(target->clients[i].since);
  }
  close(target->epoll);
  free(target->clients);
  free(target->message);
  target->name[0] = 0;
}

/* Sends as much of what is owed as goes. */
static void pump(Target *target, Client *client) {
  while (client->owed > 0) {
    int64_t at = client->sent % target->chunk;
    int64_t size = client->owed < target->chunk - at ? client->owed : target->chunk - at;
    int64_t sent = send(client->fd, target->message + at, size, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) fail("send");
      if (!client->blocked) watch(target, client, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      client->blocked = 1;
      return;
    }
    client->sent += sent;
    client->owed -= sent;
  }
  if (client->blocked) watch(target, client, EPOLLIN, EPOLL_CTL_MOD);
  client->blocked = 0;
}

static void ask(Target *target, Client *client, int64_t count, uint64_t since) {
  for (int64_t i = 0; i < count; i++) client->since[(client->head + client->outstanding++) % RING] = since;
  client->owed += count * target->size;
  pump(target, client);
}

static int64_t take(Client *client) {
  int64_t size = recv(client->fd, inbox, sizeof inbox, 0);
  if (size < 0 && errno == EAGAIN) return 0;
  if (size == 0) errno = ECONNRESET;
  if (size <= 0) fail("recv");
  client->received += size;
  return size;
}

/* Whole answers that came, each of them timed. */
static int64_t answers(Target *target, Client *client, uint64_t time) {
  int64_t before = client->received / target->size;
  if (take(client) == 0) return 0;
  int64_t count = client->received / target->size - before;
  for (int64_t i = 0; i < count; i++, client->outstanding--) record(time - client->since[client->head++ % RING]);
  return count;
}

static int wait_for(Target *target, struct epoll_event *events, int timeout) {
  int count = epoll_wait(target->epoll, events, EVENTS, timeout);
  if (count == 0 && timeout == SILENCE) {
    errno = 0;
    fail(target->name);
  }
  return count;
}

static void echo(Target *target, int64_t requests, int64_t depth) {
  static struct epoll_event events[EVENTS];
  uint64_t start = now();
  forget();
  int running = target->count;
  for (int i = 0; i < target->count; i++) {
    Client *client = &target->clients[i];
    int64_t first = requests < depth ? requests : depth;
    client->left = requests - first;
    ask(target, client, first, start);
  }
  while (running > 0) {
    int count = wait_for(target, events, SILENCE);
    for (int i = 0; i < count; i++) {
      Client *client = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) pump(target, client);
      if (!(events[i].events & ~EPOLLOUT)) continue;
      uint64_t time = now();
      int64_t answered = answers(target, client, time);
      int64_t next = answered < client->left ? answered : client->left;
      client->left -= next;
      if (next > 0) ask(target, client, next, time);
      else if (answered > 0 && client->outstanding == 0) running--;
    }
  }
  report(now() - start, requests * target->count);
}

static void paced(Target *target, double rate, int64_t milliseconds) {
  static struct epoll_event events[EVENTS];
  int64_t total = (int64_t)(rate * (double)milliseconds / 1000), issued = 0, answered = 0;
  double interval = 1e9 / rate;
  uint64_t start = now(), last = start;
  forget();
  while (answered < total) {
    uint64_t time = now();
    while (issued < total && (uint64_t)((double)issued * interval) <= time - start) {
      Client *client = &target->clients[issued % target->count];
      if (client->outstanding >= RING) break;
      ask(target, client, 1, start + (uint64_t)((double)issued * interval));
      issued++;
    }
    int count = wait_for(target, events, 0);
    for (int i = 0; i < count; i++) {
      if (events[i].events & EPOLLOUT) pump(target, events[i].data.ptr);
      if (events[i].events & ~EPOLLOUT) answered += answers(target, events[i].data.ptr, last = now());
    }
    if (time > last && time - last > SILENCE * 1000000ull) errno = 0, fail(target->name);
  }
  report(now() - start, total);
}

static void fanout(Target *target, int64_t rounds) {
  static struct epoll_event events[EVENTS];
  uint64_t start = now();
  forget();
  for (int64_t round = 0; round < rounds; round++) {
    uint64_t said = now();
    int64_t missing = (int64_t)(target->count - 1) * target->size;
    target->clients[0].owed += target->size;
    pump(target, &target->clients[0]);
    while (missing > 0) {
      int count = wait_for(target, events, SILENCE);
      for (int i = 0; i < count; i++) missing -= take(events[i].data.ptr);
    }
    record(now() - said);
  }
  report(now() - start, rounds * (target->count - 1));
}

/* Evenly over the connections; those that are left over go to the first. */
static int64_t share_of(Target *target, int i, int64_t all) { return all / target->count + (i < all % target->count); }

static void stream(Target *target, int64_t mebibytes, int out) {
  static struct epoll_event events[EVENTS];
  uint64_t start = now();
  forget();
  int64_t missing = out ? mebibytes : mebibytes * MEBI;
  for (int i = 0; i < target->count; i++) {
    target->clients[i].owed += share_of(target, i, mebibytes) * (out ? MEBI : 1);
    pump(target, &target->clients[i]);
  }
  while (missing > 0) {
    int count = wait_for(target, events, SILENCE);
    for (int i = 0; i < count; i++) {
      if (events[i].events & EPOLLOUT) pump(target, events[i].data.ptr);
      if (events[i].events & ~EPOLLOUT) missing -= take(events[i].data.ptr);
    }
  }
  report(now() - start, mebibytes);
}

typedef struct {
  int fd, asked;
  int64_t received;
  uint64_t since;
} Visit;

static void requests(int port, int64_t total, int parallel, int size) {
  static struct epoll_event events[EVENTS];
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  Visit *visits = calloc(parallel, sizeof *visits);
  char *message = calloc(1, size);
  if (size >= 4) *(uint32_t *)message = htonl(size - 4);
  int64_t begun = 0, done = 0;
  uint64_t start = now();
  forget();
  while (done < total) {
    for (int i = 0; i < parallel && begun < total; i++) {
      Visit *visit = &visits[i];
      if (visit->fd != 0) continue;
      *visit = (Visit){.since = now()};
      visit->fd = dial(port, begun++, SOCK_STREAM | SOCK_NONBLOCK);
      struct epoll_event event = {.events = EPOLLOUT, .data.ptr = visit};
      epoll_ctl(epoll, EPOLL_CTL_ADD, visit->fd, &event);
    }
    int count = epoll_wait(epoll, events, EVENTS, SILENCE);
    if (count == 0) errno = 0, fail("requests");
    for (int i = 0; i < count; i++) {
      Visit *visit = events[i].data.ptr;
      if (!visit->asked) {
        if (send(visit->fd, message, size, MSG_NOSIGNAL) != size) fail("send");
        visit->asked = 1;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = visit};
        epoll_ctl(epoll, EPOLL_CTL_MOD, visit->fd, &event);
        continue;
      }
      int64_t bytes = recv(visit->fd, inbox, sizeof inbox, 0);
      if (bytes == 0) errno = ECONNRESET;
      if (bytes <= 0) fail("recv");
      visit->received += bytes;
      if (visit->received < size) continue;
      close(visit->fd);
      visit->fd = 0;
      record(now() - visit->since);
      done++;
    }
  }
  report(now() - start, total);
  close(epoll);
  free(visits);
  free(message);
}

/* Datagrams that are answered one by one; what is lost is sent again. */
static void udp_echo(Target *target, int64_t total) {
  static struct epoll_event events[EVENTS];
  uint64_t start = now();
  forget();
  int running = target->count;
  for (int i = 0; i < target->count; i++) {
    target->clients[i].left = total;
    send(target->clients[i].fd, target->message, target->size, 0);
  }
  for (int silent = 0; running > 0;) {
    int count = epoll_wait(target->epoll, events, EVENTS, LOST);
    silent = count == 0 ? silent + LOST : 0;
    if (silent > SILENCE) errno = 0, fail(target->name);
    if (count == 0)
      for (int i = 0; i < target->count; i++)
        if (target->clients[i].left > 0) send(target->clients[i].fd, target->message, target->size, 0);
    for (int i = 0; i < count; i++) {
      Client *client = events[i].data.ptr;
      if (recv(client->fd, inbox, sizeof inbox, 0) < 0 || client->left == 0) continue;
      if (--client->left > 0) send(client->fd, target->message, target->size, 0);
      else running--;
    }
  }
  report(now() - start, total * target->count);
}

static struct mmsghdr messages[BATCH];
static struct iovec pieces[BATCH];

static void flood(int port, int64_t total, int size, int segments) {
  int fd = dial(port, 0, SOCK_DGRAM);
  if (segments > 1) one(fd, IPPROTO_UDP, UDP_SEGMENT, size);
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){inbox, (size_t)size * segments};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
  }
  uint64_t start = now();
  forget();
  for (int64_t sent = 0; sent < total;) {
    int count = sendmmsg(fd, messages, segments > 1 ? 1 : BATCH, 0);
    if (count < 0) fail("sendmmsg");
    sent += (int64_t)count * segments;
  }
  report(now() - start, total);
  close(fd);
}

/* A socket that others flood. Segments that were sent together are taken together, as a network card would hand them over. */
static int receiver = -1;
static int64_t datagrams, datagram_bytes;

static void receive_open(void) {
  struct sockaddr_in at = loopback(0);
  socklen_t length = sizeof at;
  receiver = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  one(receiver, SOL_SOCKET, SO_RCVBUF, 4 << 20);
  one(receiver, IPPROTO_UDP, UDP_GRO, 1);
  bind(receiver, (struct sockaddr *)&at, sizeof at);
  getsockname(receiver, (struct sockaddr *)&at, &length);
  printf("{\"port\":%d}\n", ntohs(at.sin_port));
}

static void receive_all(void) {
  for (;;) {
    union {
      char room[CMSG_SPACE(sizeof(int))];
      struct cmsghdr aligned;
    } control;
    struct iovec piece = {inbox, sizeof inbox};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int64_t size = recvmsg(receiver, &message, MSG_DONTWAIT);
    if (size < 0) return;
    int segment = 0;
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first != NULL && first->cmsg_level == IPPROTO_UDP && first->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(first), sizeof segment);
    datagrams += segment > 0 ? (size + segment - 1) / segment : 1;
    datagram_bytes += size;
  }
}

static void run(const char *line) {
  char name[128];
  int port, count, size;
  long long many, more;
  double rate;
  if (sscanf(line, "connect %127s %d %d %d", name, &port, &count, &size) == 4) {
    open_target(name, port, count, size, SOCK_STREAM);
    printf("{\"connected\":%d}\n", count);
  } else if (sscanf(line, "echo %127s %lld %lld", name, &many, &more) == 3) echo(find(name), many, more);
  else if (sscanf(line, "paced %127s %lf %lld", name, &rate, &many) == 3) paced(find(name), rate, many);
  else if (sscanf(line, "fanout %127s %lld", name, &many) == 2) fanout(find(name), many);
  else if (sscanf(line, "push %127s %lld", name, &many) == 2) stream(find(name), many, 1);
  else if (sscanf(line, "pull %127s %lld", name, &many) == 2) stream(find(name), many, 0);
  else if (sscanf(line, "close %127s", name) == 1) {
    close_target(find(name));
    printf("{}\n");
  } else if (sscanf(line, "requests %d %lld %d %d", &port, &many, &count, &size) == 4) requests(port, many, count, size);
  else if (sscanf(line, "udp %127s %d %d %d", name, &port, &count, &size) == 4) {
    open_target(name, port, count, size, SOCK_DGRAM);
    printf("{\"connected\":%d}\n", count);
  } else if (sscanf(line, "udp-echo %127s %lld", name, &many) == 2) udp_echo(find(name), many);
  else if (sscanf(line, "flood %d %lld %d %d", &port, &many, &size, &count) == 4) flood(port, many, size, count);
  else if (strcmp(line, "receive") == 0) receive_open();
  else if (strcmp(line, "received") == 0) {
    receive_all();
    printf("{\"datagrams\":%lld,\"bytes\":%lld}\n", (long long)datagrams, (long long)datagram_bytes);
  } else {
    errno = EINVAL;
    fail("a line of the input");
  }
  fflush(stdout);
}

int main(void) {
  struct rlimit most;
  getrlimit(RLIMIT_NOFILE, &most);
  most.rlim_cur = most.rlim_max;
  setrlimit(RLIMIT_NOFILE, &most);
  static char line[512];
  size_t length = 0;
  for (;;) {
    struct pollfd ready[2] = {{.fd = 0, .events = POLLIN}, {.fd = receiver, .events = POLLIN}};
    poll(ready, receiver < 0 ? 1 : 2, -1);
    if (receiver >= 0 && ready[1].revents) receive_all();
    if (!ready[0].revents) continue;
    ssize_t size = read(0, line + length, sizeof line - 1 - length);
    if (size <= 0) return 0;
    length += (size_t)size;
    line[length] = 0;
    for (char *end; (end = strchr(line, '\n')) != NULL;) {
      *end = 0;
      run(line);
      length -= (size_t)(end + 1 - line);
      memmove(line, end + 1, length + 1);
    }
  }
}
