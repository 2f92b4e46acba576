// A download client that discards bodies in the kernel (MSG_TRUNC), so that it does not become the
// bottleneck of what it measures. One thread, keep-alive, N connections.
//   cc -O2 -o sink sink.c && ./sink HOST PORT PATH CONNECTIONS MAX_SECONDS REQUESTS [LIMIT_SECONDS]
// After MAX_SECONDS no request is sent; at LIMIT_SECONDS (60 later, if not given) all ends as it is.
// Prints one JSON line: bytes, requests, errors, wall (s), time to first byte and latency (ms).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 8192, MAX_SAMPLES = 2000000, DISCARD_BYTES = 64 << 20 };

typedef struct {
  int fd, in_body, head_length;
  long remaining;
  char head[HEAD_BYTES];
  double sent_at;
} Connection;

static struct sockaddr_in server;
static char request[2048];
static int request_length;
static double first_byte[MAX_SAMPLES], latency[MAX_SAMPLES];
static long first_bytes, latencies, bytes, errors;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static int fail(const char *what) {
  perror(what);
  exit(2);
}

static void send_request(Connection *c) {
  c->in_body = 0;
  c->sent_at = now();
  if (write(c->fd, request, request_length) != request_length) fail("write");
}

static void open_connection(Connection *c, int poll) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0 || connect(c->fd, (void *)&server, sizeof server)) fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &e);
}

// 1: the head is read. 0: more is needed. -1: the connection is over.
static int read_head(Connection *c) {
  ssize_t n = recv(c->fd, c->head, HEAD_BYTES - 1, MSG_PEEK);
  if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
  c->head[n] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) return 0;
  int length = end - c->head + 4;
  if (recv(c->fd, c->head, length, 0) != length) fail("head");
  c->head[length] = 0;
  if (strncmp(c->head + 9, "200", 3) && strncmp(c->head + 9, "206", 3) && !errors++)
    fprintf(stderr, "%.60s\n", c->head);
  char *size = strcasestr(c->head, "content-length:");
  if (!size) return -1;
  c->remaining = atol(size + 15);
  c->in_body = 1;
  if (first_bytes < MAX_SAMPLES) first_byte[first_bytes++] = now() - c->sent_at;
  return 1;
}

// 1: the response is complete. 0: more will come. -1: the connection is over.
static int discard_body(Connection *c) {
  errno = 0;
  if (c->remaining > 0) {
    size_t want = c->remaining < DISCARD_BYTES ? (size_t)c->remaining : DISCARD_BYTES;
    ssize_t n = recv(c->fd, NULL, want, MSG_TRUNC);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    c->remaining -= n;
    bytes += n;
  }
  if (c->remaining > 0) return 0;
  if (latencies < MAX_SAMPLES) latency[latencies++] = now() - c->sent_at;
  return 1;
}

static int by_value(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return x < y ? -1 : x > y;
}

static double at(double *samples, long count, double part) {
  return count ? samples[(long)((count - 1) * part)] * 1e3 : 0;
}

int main(int argc, char **argv) {
  if (argc < 7) return fprintf(stderr, "usage: sink HOST PORT PATH CONNECTIONS SECONDS REQUESTS [LIMIT]\n"), 2;
  int connections = atoi(argv[4]);
  long wanted = atol(argv[6]), started = 0, done = 0;
  server.sin_family = AF_INET;
  server.sin_port = htons(atoi(argv[2]));
  inet_pton(AF_INET, argv[1], &server.sin_addr);
  request_length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nAccept: */*\r\n\r\n",
                            argv[3], argv[1], argv[2]);
  Connection *all = calloc(connections, sizeof *all);
  int poll = epoll_create1(0), live = 0;
  double begun = now(), until = begun + atof(argv[5]);
  double limit = argc > 7 ? begun + atof(argv[7]) : until + 60;
  for (; live < connections && started < wanted; live++, started++) {
    open_connection(&all[live], poll);
    send_request(&all[live]);
  }
  while (live > 0 && now() < limit) {
    struct epoll_event ready[128];
    int count = epoll_wait(poll, ready, 128, 100);
    for (int i = 0; i < count; i++) {
      Connection *c = ready[i].data.ptr;
      int state = c->in_body ? 1 : read_head(c);
      for (int turn = 0; state == 1 && turn < 8; turn++) {
        state = discard_body(c);
        if (state == 1) break;
        if (state == 0 && errno == EAGAIN) break;
        if (state == 0) state = 1;
      }
      if (state == 1 && c->remaining == 0) {
        done++;
        if (started < wanted && now() < until) {
          send_request(c);
          started++;
          continue;
        }
        close(c->fd);
        live--;
      } else if (state < 0) {
        errors++;
        close(c->fd);
        live--;
      }
    }
  }
  double wall = now() - begun;
  qsort(first_byte, first_bytes, sizeof(double), by_value);
  qsort(latency, latencies, sizeof(double), by_value);
  printf("{\"bytes\":%ld,\"requests\":%ld,\"errors\":%ld,\"wall\":%.4f,\"firstByte50\":%.3f,"
         "\"firstByteMax\":%.3f,\"latency50\":%.3f,\"latency99\":%.3f}\n",
         bytes, done, errors, wall, at(first_byte, first_bytes, .5), at(first_byte, first_bytes, 1),
         at(latency, latencies, .5), at(latency, latencies, .99));
  return errors ? 1 : 0;
}
