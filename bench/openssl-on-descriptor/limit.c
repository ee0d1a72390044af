/* The echo in C that the others are compared with: one thread, level-triggered epoll, libssl, no allocation of its own. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <signal.h>

static char slab[65536];

static void watch(int epoll, int operation, int fd, uint32_t events, void *what) {
  struct epoll_event event = {.events = events, .data.ptr = what};
  epoll_ctl(epoll, operation, fd, &event);
}

static void end(int epoll, SSL *ssl) {
  int fd = SSL_get_fd(ssl);
  watch(epoll, EPOLL_CTL_DEL, fd, 0, NULL);
  SSL_free(ssl);
  close(fd);
}

/* The load never has more than one message under way, so a write that has to wait does not happen. */
static void echo(int epoll, SSL *ssl) {
  if (!SSL_is_init_finished(ssl)) {
    int result = SSL_do_handshake(ssl);
    if (result != 1 && SSL_get_error(ssl, result) != SSL_ERROR_WANT_READ) end(epoll, ssl);
    return;
  }
  do {
    int count = SSL_read(ssl, slab, sizeof slab);
    if (count <= 0) {
      if (SSL_get_error(ssl, count) != SSL_ERROR_WANT_READ) end(epoll, ssl);
      return;
    }
    if (SSL_write(ssl, slab, count) != count) return end(epoll, ssl);
  } while (SSL_has_pending(ssl));
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  signal(SIGPIPE, SIG_IGN);
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_use_certificate_chain_file(context, argv[1]);
  SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, epoll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  bind(listener, (struct sockaddr *)&address, length);
  listen(listener, 1024);
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
  struct epoll_event events[256];
  for (;;) {
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr != NULL) {
        echo(epoll, events[i].data.ptr);
        continue;
      }
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      SSL *ssl = SSL_new(context);
      SSL_set_fd(ssl, fd);
      SSL_set_accept_state(ssl);
      watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, ssl);
    }
  }
}
