/* A load generator with a fixed rate, for the tail latency of a server that is busy but not full.
 *
 * wrk asks again as soon as it is answered, so it always finds the server's limit. Here request number n is due at
 * n / RATE seconds and its latency counts from then, whether or not a connection was free (no coordinated omission).
 * The connections are kept alive and take turns; the loop never sleeps longer than until the next request is due.
 *
 *   paced PORT PATH RATE SECONDS CONNECTIONS [KEYS]
 *
 * With KEYS the % in PATH is another number below it in each request, and the host is bench.example. SIGUSR1 forgets what
 * was measured so far and SIGTERM ends the run early: so a run can be as long as something that goes on in the server.
 * Prints one line of JSON: requests asked for and answered, errors, p50/p90/p99/p999/max in µs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, EVENTS = 256, READ = 65536, CELLS = 2000000, QUEUE = 1 << 22 };

struct connection {
    int fd;                     /* -1 once it has failed */
    long long due;              /* when its request should have gone out, ns */
    size_t missing;             /* bytes of the answer still to come; 0 while the head is incomplete */
    size_t got;
    char head[8192];
};

static struct connection connections[MOST];
static int idle[MOST], idles;
static unsigned *histogram;     /* one cell per µs, the last one for all that is longer */
static long long *waiting;      /* due times of requests for which no connection was free */
static unsigned long long first_waiting, last_waiting, asked, answered, errors, asked_before, answered_before;
static volatile sig_atomic_t forget, end_now;

static void on_signal(int number) {
    if (number == SIGUSR1) forget = 1;
    else end_now = 1;
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void finish(struct connection *c) {
    long long took = (now() - c->due) / 1000;
    histogram[took < CELLS - 1 ? took : CELLS - 1]++;
    answered++;
    c->got = c->missing = 0;
    idle[idles++] = (int)(c - connections);
}

/* A failed connection stays out of use: the run is reported with its errors. */
static void fail(struct connection *c) {
    errors++;
    close(c->fd);
    c->fd = -1;
}

static void receive(struct connection *c) {
    static char sink[READ];
    if (c->missing) {
        ssize_t got = read(c->fd, sink, c->missing < READ ? c->missing : READ);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) return fail(c);
        if ((c->missing -= (size_t)got) == 0) finish(c);
        return;
    }
    ssize_t got = read(c->fd, c->head + c->got, sizeof c->head - 1 - c->got);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return fail(c);
    c->head[c->got += (size_t)got] = 0;
    char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\ncontent-length:");
    if (!end) return c->got == sizeof c->head - 1 ? fail(c) : (void)0;
    if (strncmp(c->head, "HTTP/1.1 200 ", 13) || !length || length > end) return fail(c);
    size_t whole = (size_t)(end + 4 - c->head) + strtoul(length + 17, NULL, 10);
    if (c->got > whole) return fail(c);
    if (c->got == whole) finish(c);
    else c->missing = whole - c->got;
}

static unsigned long long percentile(double share) {
    unsigned long long want = (unsigned long long)((double)(answered - answered_before) * share), sum = 0;
    for (unsigned i = 0; i < CELLS; i++)
        if ((sum += histogram[i]) > want) return i;
    return CELLS;
}

int main(int argc, char **argv) {
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: paced PORT PATH RATE SECONDS CONNECTIONS [KEYS]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    int count = atoi(argv[5]), one = 1, poll = epoll_create1(0);
    if (rate <= 0 || seconds <= 0 || count < 1 || count > MOST || poll < 0) die("arguments");
    histogram = calloc(CELLS, sizeof *histogram);
    waiting = calloc(QUEUE, sizeof *waiting);
    if (!histogram || !waiting) die("calloc");
    unsigned keys = argc == 7 ? (unsigned)atoi(argv[6]) : 0, key = 0;
    char request[2048], *rest = keys ? strchr(argv[2], '%') : NULL;
    if (keys && !rest) die("no % in the path");
    if (rest) *rest++ = 0;
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: 127.0.0.1:%s\r\n\r\n", argv[2], argv[1]);
    if (size + 1024 >= (int)sizeof request) die("path");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at) < 0) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
        idle[idles++] = i;
    }
    struct epoll_event events[EVENTS];
    long long start = now(), step = (long long)(1e9 / rate), stop = start + (long long)(seconds * 1e9), grace = stop + 2000000000LL;
    for (long long t = now(); t < grace; t = now()) {
        if (forget) {
            forget = 0;
            memset(histogram, 0, CELLS * sizeof *histogram);
            asked_before = asked;
            answered_before = answered;
        }
        if (end_now && stop > t) {
            stop = t;
            grace = t + 2000000000LL;
        }
        if (t >= stop && first_waiting == last_waiting && answered + errors >= asked) break;
        for (long long due; (due = start + (long long)asked * step) <= t && due < stop; asked++) {
            if (last_waiting - first_waiting == QUEUE) die("the server fell too far behind");
            waiting[last_waiting++ % QUEUE] = due;
        }
        while (first_waiting < last_waiting && idles) {
            struct connection *c = &connections[idle[--idles]];
            c->due = waiting[first_waiting++ % QUEUE];
            if (rest) {
                key = (unsigned)((key + 2654435761u) % keys);
                size = snprintf(request, sizeof request, "GET %s%u%s HTTP/1.1\r\nhost: bench.example\r\n\r\n", argv[2], key, rest);
            }
            if (send(c->fd, request, (size_t)size, MSG_DONTWAIT) != size) fail(c);
        }
        long long next = start + (long long)asked * step - now();
        struct timespec nap = {0, next > 0 ? (next < 1000000 ? next : 1000000) : 0};
        int ready = epoll_pwait2(poll, events, EVENTS, &nap, NULL);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0) receive(c);
        }
    }
    printf("{\"asked\": %llu, \"answered\": %llu, \"errors\": %llu, \"p50\": %llu, \"p90\": %llu, \"p99\": %llu, \"p999\": %llu, \"max\": %llu}\n",
           asked - asked_before, answered - answered_before, errors, percentile(.50), percentile(.90), percentile(.99), percentile(.999), percentile(.999999));
    return 0;
}
