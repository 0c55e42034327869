/* Replays a trace of requests against a cache: the client of the hit-ratio benchmark.
 *
 *   replay PORT TRACE CONNECTIONS [KIND]
 *
 * TRACE is a file of pairs of 32-bit little-endian numbers: a key and the size of its object. Each connection is a
 * thread that takes the next request of the trace when the last one is answered, so the order is the trace's but for as
 * many requests as there are connections. KIND is what the origin makes of them: sized (the default) or tagged. An answer
 * must be a 200 of the right Content-Length. Prints one line of JSON; latencies are in µs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, READ = 262144, CELLS = 1 << 20 };

struct request {
    uint32_t key, size;
};

static struct request *trace;
static size_t requests;
static atomic_size_t next_request, wrong;
static atomic_ullong bytes;
static atomic_uint histogram[CELLS]; /* one cell per µs, the last one for all that is longer */
static const char *kind = "sized";
static int port;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static unsigned percentile(double share) {
    unsigned long long sum = 0, want = (unsigned long long)((double)(requests - wrong) * share);
    for (unsigned i = 0; i < CELLS; i++)
        if ((sum += histogram[i]) > want) return i;
    return CELLS;
}

static int open_connection(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = 20};
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* Whether the answer was the right one, read to its end. */
static int ask(int fd, struct request r, char *buffer) {
    char head[160];
    int n = snprintf(head, sizeof head, "GET /hit/%s/%u/%u HTTP/1.1\r\nhost: bench.example\r\n\r\n", kind, r.key, r.size);
    if (write(fd, head, (size_t)n) != n) return 0;
    size_t got = 0;
    char *end = NULL;
    while (!end) {
        ssize_t more = got < READ - 1 ? read(fd, buffer + got, READ - 1 - got) : -1;
        if (more <= 0) return 0;
        got += (size_t)more;
        buffer[got] = 0;
        end = memmem(buffer, got, "\r\n\r\n", 4);
    }
    *end = 0;
    char *length = strcasestr(buffer, "\r\ncontent-length:");
    if (strncmp(buffer, "HTTP/1.1 200", 12) != 0 || !length || strtoul(length + 17, NULL, 10) != r.size) return 0;
    size_t left = r.size - (got - (size_t)(end + 4 - buffer));
    while (left) {
        ssize_t more = read(fd, buffer, left < READ ? left : READ);
        if (more <= 0) return 0;
        left -= (size_t)more;
    }
    return 1;
}

static void *work(void *unused) {
    (void)unused;
    char *buffer = malloc(READ);
    if (!buffer) die("malloc");
    int fd = open_connection();
    for (;;) {
        size_t number = atomic_fetch_add(&next_request, 1);
        if (number >= requests) break;
        long long from = now();
        if (ask(fd, trace[number], buffer)) {
            long long took = now() - from;
            atomic_fetch_add(&histogram[took < CELLS - 1 ? took : CELLS - 1], 1);
            atomic_fetch_add(&bytes, trace[number].size);
            continue;
        }
        atomic_fetch_add(&wrong, 1);
        close(fd);
        fd = open_connection();
    }
    close(fd);
    free(buffer);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc == 4 || argc == 5 ? atoi(argv[3]) : 0;
    if (argc == 5) kind = argv[4];
    if (threads < 1 || threads > MOST) {
        fprintf(stderr, "usage: replay PORT TRACE CONNECTIONS (1 to %d) [KIND]\n", MOST);
        return 2;
    }
    port = atoi(argv[1]);
    FILE *file = fopen(argv[2], "rb");
    struct stat about;
    if (!file || fstat(fileno(file), &about) < 0) die(argv[2]);
    requests = (size_t)about.st_size / sizeof *trace;
    trace = malloc((size_t)about.st_size + 1);
    if (!trace || fread(trace, sizeof *trace, requests, file) != requests) die(argv[2]);
    long long from = now();
    pthread_t started[MOST];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&started[i], NULL, work, NULL)) die("pthread_create");
    for (int i = 0; i < threads; i++) pthread_join(started[i], NULL);
    double seconds = (double)(now() - from) / 1e6;
    printf("{\"requests\": %zu, \"wrong\": %zu, \"bytes\": %llu, \"seconds\": %.3f, \"p50\": %u, \"p99\": %u, \"p999\": %u}\n",
           requests, (size_t)wrong, (unsigned long long)bytes, seconds, percentile(.50), percentile(.99), percentile(.999));
    return 0;
}
