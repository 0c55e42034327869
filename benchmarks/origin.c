/* The origin behind every server: fast enough not to be the bottleneck of the proxying work.
 *
 *   GET …1k       1 KiB          GET …100k    100 KiB        GET …10m   10 MiB
 *   GET …/sized/KEY/BYTES        so many bytes, at most 1 MiB
 *   GET …/tagged/KEY/BYTES       the same with Cache-Tag: tag-N, N being KEY modulo 100
 *   GET /count    the number of requests answered so far, /count itself not counted
 *   GET /counts   the same, and the bytes of their bodies
 *   anything else 404
 *
 * The count is how the harness proves that a "hit" never reached the origin and a "pass" always did.
 * One epoll loop, keep-alive, requests without a body. A request may arrive in pieces, and several in one read.
 *
 *   origin PORT   listens on 127.0.0.1:PORT until it is killed
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
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 1024, LARGE = 102400, HUGEST = 10 << 20, LARGEST = 1 << 20, EVENTS = 256, CONNECTIONS = 8192, HEAD = 16384 };

struct connection {
    size_t got;                 /* bytes of the request head read so far */
    size_t owed;                /* bytes of the response not yet written */
    const char *rest;           /* where the unwritten bytes of the body begin */
    char head[HEAD];
};

static struct connection *connections[CONNECTIONS];
static char body[HUGEST];
static unsigned long long answered, sent;
static int poll_fd;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void drop(int fd) {
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static const char *date(void) {
    static time_t last;
    static char text[64];
    time_t now = time(NULL);
    if (now != last) {
        struct tm parts;
        last = now;
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts));
    }
    return text;
}

static void wait_for(int fd, unsigned int what) {
    struct epoll_event event = {.events = what, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
}

/* Writes what it can. 1: all written, 0: the rest waits for room in the socket, -1: lost. */
static int answer(int fd, struct connection *c) {
    char head[512], number[64], tag[48] = "";
    const char *from = body, *end = memchr(c->head, '\n', c->got), *space = memchr(c->head, ' ', (size_t)(end - c->head));
    const char *target = space ? space + 1 : end, *stop = memchr(target, ' ', (size_t)(end - target));
    size_t length = 0, size = stop ? (size_t)(stop - target) : 0;
    const char *status = "200 OK", *reuse = "public, max-age=3600";
    if (size == 6 && memcmp(target, "/count", 6) == 0) {
        length = (size_t)snprintf(number, sizeof number, "%llu", answered);
        from = number;
        reuse = "no-store";
    } else if (size == 7 && memcmp(target, "/counts", 7) == 0) {
        length = (size_t)snprintf(number, sizeof number, "%llu %llu", answered, sent);
        from = number;
        reuse = "no-store";
    } else {
        answered++;
        const char *key = memmem(target, size, "/sized/", 7);
        if (key) key += 7;
        else if ((key = memmem(target, size, "/tagged/", 8))) {
            key += 8;
            snprintf(tag, sizeof tag, "cache-tag: tag-%lu\r\n", strtoul(key, NULL, 10) % 100);
        }
        const char *bytes = key ? memchr(key, '/', (size_t)(stop - key)) : NULL;
        if (bytes && (length = strtoul(bytes + 1, NULL, 10)) <= LARGEST) sent += length;
        else if (size >= 4 && memcmp(stop - 4, "100k", 4) == 0) length = LARGE;
        else if (size >= 3 && memcmp(stop - 3, "10m", 3) == 0) length = HUGEST;
        else if (size >= 2 && memcmp(stop - 2, "1k", 2) == 0) length = SMALL;
        else length = 0, status = "404 Not Found", reuse = "no-store";
    }
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\ncache-control: %s\r\n%s"
                     "etag: \"bench-%zu\"\r\ndate: %s\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
                     status, length, reuse, tag, length, date());
    struct iovec parts[2] = {{head, (size_t)n}, {(void *)from, length}};
    ssize_t wrote = writev(fd, parts, 2);
    if (wrote < n) return -1; /* a head that does not fit into an empty socket buffer: the peer is gone */
    c->rest = from + (wrote - n);
    c->owed = length - (size_t)(wrote - n);
    return c->owed == 0;
}

static void serve(int fd, struct connection *c) {
    for (;;) {
        if (c->owed) {
            ssize_t wrote = write(fd, c->rest, c->owed);
            if (wrote < 0 && errno == EAGAIN) return wait_for(fd, EPOLLOUT);
            if (wrote <= 0) return drop(fd);
            c->rest += wrote;
            if ((c->owed -= (size_t)wrote)) continue;
            wait_for(fd, EPOLLIN);
        }
        char *end = c->got ? memmem(c->head, c->got, "\r\n\r\n", 4) : NULL;
        if (!end) {
            if (c->got == HEAD) return drop(fd);
            ssize_t got = read(fd, c->head + c->got, HEAD - c->got);
            if (got < 0 && errno == EAGAIN) return;
            if (got <= 0) return drop(fd);
            c->got += (size_t)got;
            if (!(end = memmem(c->head, c->got, "\r\n\r\n", 4))) continue;
        }
        int done = answer(fd, c);
        if (done < 0) return drop(fd);
        c->got -= (size_t)(end + 4 - c->head);
        if (c->got) memmove(c->head, end + 4, c->got);
        else if (done) return; /* nothing more in hand: let epoll say when there is */
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: origin PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < HUGEST; i++) body[i] = (char)('a' + i % 26);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    if (listen(listener, 1024) < 0) die("listen");
    if ((poll_fd = epoll_create1(0)) < 0) die("epoll_create1");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                serve(fd, connections[fd]);
                continue;
            }
            int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (accepted < 0) continue;
            if (accepted >= CONNECTIONS || !(connections[accepted] = calloc(1, sizeof **connections))) {
                close(accepted);
                continue;
            }
            setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = accepted};
            epoll_ctl(poll_fd, EPOLL_CTL_ADD, accepted, &event);
        }
    }
}
