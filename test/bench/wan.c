// A far link for kernels without netem: two TUN devices, and between them a delay, a rate with a queue
// in front of it that drops what does not fit, and random loss. Move one device into another network
// namespace once "ready" is printed. On SIGTERM it prints one JSON line of what passed, and ends.
//   cc -O2 -o wan wan.c && ./wan NEAR FAR DELAY_MS LOSS_PERCENT MBIT QUEUE_KIB SEED
// DELAY_MS is one way. Loss and queue work in each direction by itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

// SLOTS: a power of two, more than what 1 Gbit/s has under way and queued at any time.
// SPARED_BYTES: what is this small carries no data. It is never lost: a lost SYN would measure the
// second that its sender waits, not the link.
// TICK_NS: packets are moved this often at most, not each by itself: it costs less.
enum { MTU = 1500, SLOTS = 16384, SPARED_BYTES = 200, TICK_NS = 250000, IDLE_MS = 100 };

typedef struct {
  double due;
  int length;
  char bytes[MTU];
} Packet;

typedef struct {
  int from, to;
  double rate_free_at;  // when the rate has let through all that was accepted
  unsigned head, tail;  // counters; a slot is counter % SLOTS
  long packets, bytes, lost, overflowed;
  double late, latest;  // seconds over the due time: all of them, the worst
  Packet *slots;
} Direction;

static double delay, loss, bytes_per_second, queue_bytes;
static uint64_t random_state;
static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// xorshift64*: 0 <= result < 1
static double chance(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (random_state * 0x2545F4914F6CDD1Dull >> 11) * 0x1p-53;
}

static int open_device(const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (fd < 0) fail("/dev/net/tun");
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  if (ioctl(fd, TUNSETIFF, &request)) fail(name);
  return fd;
}

// Takes what the sender has written, up to as much as fits into the slots in one go.
static void accept_packets(Direction *d) {
  for (int count = 0; count < SLOTS; count++) {
    static char overflow[MTU];
    Packet *packet = &d->slots[d->tail % SLOTS];
    int full = d->tail - d->head == SLOTS;
    int length = read(d->from, full ? overflow : packet->bytes, MTU);
    if (length <= 0) return;
    double at = now();
    d->packets++;
    d->bytes += length;
    if (length > SPARED_BYTES && loss > 0 && chance() < loss) {
      d->lost++;
      continue;
    }
    if (d->rate_free_at < at) d->rate_free_at = at;
    if (full || (d->rate_free_at - at) * bytes_per_second > queue_bytes) {
      d->overflowed++;
      continue;
    }
    d->rate_free_at += length / bytes_per_second;
    packet->due = d->rate_free_at + delay;
    packet->length = length;
    d->tail++;
  }
}

static void deliver_packets(Direction *d) {
  for (double at = now(); d->head != d->tail; d->head++) {
    Packet *packet = &d->slots[d->head % SLOTS];
    if (packet->due > at) return;
    // A device that is down or gone takes nothing: the packet is lost, as on any link.
    if (write(d->to, packet->bytes, packet->length) < 0 && errno == EAGAIN) return;
    d->late += at - packet->due;
    if (at - packet->due > d->latest) d->latest = at - packet->due;
  }
}

// Until something is due or comes in, but never less than a tick.
static void wait_for_work(const Direction *up, const Direction *down) {
  const struct timespec tick = {.tv_nsec = TICK_NS};
  nanosleep(&tick, NULL);
  double at = now(), wait = IDLE_MS / 1e3;
  for (const Direction *d = up;; d = down) {
    double due = d->slots[d->head % SLOTS].due;
    if (d->head != d->tail && due - at < wait) wait = due - at;
    if (d == down) break;
  }
  if (wait <= 0) return;
  struct pollfd ready[2] = {{up->from, POLLIN, 0}, {down->from, POLLIN, 0}};
  const struct timespec timeout = {.tv_nsec = wait * 1e9};
  ppoll(ready, 2, &timeout, NULL);
}

static void print_direction(const char *name, const Direction *d) {
  long delivered = d->packets - d->lost - d->overflowed;
  printf("\"%s\":{\"packets\":%ld,\"bytes\":%ld,\"lost\":%ld,\"overflowed\":%ld,\"lateMeanMs\":%.3f,"
         "\"lateMaxMs\":%.3f}",
         name, d->packets, d->bytes, d->lost, d->overflowed,
         delivered ? d->late / delivered * 1e3 : 0, d->latest * 1e3);
}

int main(int argc, char **argv) {
  if (argc < 8)
    return fprintf(stderr, "usage: wan NEAR FAR DELAY_MS LOSS_PERCENT MBIT QUEUE_KIB SEED\n"), 2;
  signal(SIGTERM, stop);
  signal(SIGINT, SIG_IGN);  // of a Ctrl-C whoever started it takes care
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_TIMERSLACK, 1);
  // A busy machine must not make the link longer. Where this may not be, the delays say so.
  sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 1});
  delay = atof(argv[3]) / 1e3;
  loss = atof(argv[4]) / 100;
  bytes_per_second = atof(argv[5]) * 1e6 / 8;
  queue_bytes = atof(argv[6]) * 1024;
  random_state = strtoull(argv[7], NULL, 10) * 0x9E3779B97F4A7C15ull | 1;
  int near = open_device(argv[1]), far = open_device(argv[2]);
  Direction up = {.from = near, .to = far}, down = {.from = far, .to = near};
  up.slots = calloc(SLOTS, sizeof(Packet));
  down.slots = calloc(SLOTS, sizeof(Packet));
  if (!up.slots || !down.slots) fail("memory");
  puts("ready");
  fflush(stdout);
  while (!stopped) {
    deliver_packets(&up);
    deliver_packets(&down);
    accept_packets(&up);
    accept_packets(&down);
    wait_for_work(&up, &down);
  }
  printf("{");
  print_direction("up", &up);
  printf(",");
  print_direction("down", &down);
  printf("}\n");
  return 0;
}
